"""Images for T3: digits or Omniglot, and their distortions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from contrastive.experiments.papers.paper_data import papers_extra


def open_images(full: bool, data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Loads Omniglot with its alphabets as classes from TFDS, or the digits of scikit-learn.

    Args:
      full: Whether to load Omniglot.
      data: Folder for the downloads of TFDS.

    Returns:
      Training images [N, H, W] in [0, 1] and classes [N], then the same for testing.
    """
    if full:
        import tensorflow_datasets as tfds

        # The splits have no alphabet in common, but a probe needs training images of each.
        splits = [_omniglot(tfds, split, data) for split in ("train", "test")]
        images, labels = (np.concatenate(parts) for parts in zip(*splits, strict=True))
        return divide(images, labels)
    with papers_extra():
        from sklearn.datasets import load_digits

    pixels, labels = (np.asarray(x) for x in load_digits(return_X_y=True))
    images = pixels.reshape(-1, 8, 8).astype(np.float32) / 16
    return images[:1300], labels[:1300], images[1300:], labels[1300:]


def divide(
    images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shuffles the images, and splits them into 80% for training and 20% for testing.

    Args:
      images: Images [N, H, W].
      labels: Their classes [N].

    Returns:
      Training images and classes, then those for testing.
    """
    order = np.random.default_rng(0).permutation(len(images))
    known, tested = np.split(order, [len(images) * 4 // 5])
    return images[known], labels[known], images[tested], labels[tested]


def _omniglot(tfds, split: str, data: Path) -> tuple[np.ndarray, np.ndarray]:
    rows = tfds.as_numpy(tfds.load("omniglot", split=split, data_dir=str(data / "tfds")))
    pairs = [(1.0 - row["image"][::4, ::4, 0] / 255.0, row["alphabet"]) for row in rows]
    return np.stack([x for x, _ in pairs]).astype(np.float32), np.array([y for _, y in pairs])


def distorted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Randomly rotates, scales and shifts each image slightly, and adds noise.

    Args:
      images: Images [N, H, W].
      rng: The source of randomness.

    Returns:
      Distorted images [N, H, W].

    Raises:
      ConfigError: If SciPy is missing.
    """
    with papers_extra():
        from scipy.ndimage import affine_transform

    result = np.empty_like(images)
    middle = (np.array(images.shape[1:]) - 1) / 2
    for number, image in enumerate(images):
        angle, scale = rng.uniform(-0.25, 0.25), rng.uniform(0.9, 1.1)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
        moved = middle + rng.uniform(-1, 1, 2) * image.shape[0] / 16
        result[number] = affine_transform(image, turn, middle - turn @ moved, order=1)
    return result + rng.normal(0, 0.05, images.shape).astype(np.float32)
