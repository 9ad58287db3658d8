"""The truth the losses are held to: what their papers say, in float64, a pair at a time.

A loss is a function of a `World`; what has no gradient is taken from `base`, the world around which
it is differentiated.
"""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass
class World:
    """A batch and its settings.

    q, d: embeddings; t: one temperature a query; bias: SigLIP's.
    """

    q: np.ndarray
    d: np.ndarray
    t: np.ndarray
    bias: float = -10.0
    group_size: int = 1
    positives: int = 1
    in_batch: bool = True
    query_ids: np.ndarray | None = None
    document_ids: np.ndarray | None = None
    known: np.ndarray | None = None
    query_pools: np.ndarray | None = None
    document_pools: np.ndarray | None = None
    above_positive: float | None = None
    relative_to_positive: float | None = None
    guide_queries: np.ndarray | None = None
    guide_documents: np.ndarray | None = None
    guide_margin: float = 0.0
    base: "World | None" = None

    @property
    def around(self):
        """The world of everything that has no gradient."""
        return self.base or self

    def own(self, i):
        """Numbers of the query's positives; the first is always there."""
        places = [i * self.group_size + p for p in range(self.positives)]
        there = [
            j for j in places[1:] if self.document_pools is None or self.document_pools[j] >= 0
        ]
        return [places[0], *there]

    def s(self, i, j):
        return float(self.q[i] @ self.d[j])

    def positive(self, i):
        return self.s(i, i * self.group_size)

    def is_masked(self, i, j):
        """Whether document j is no negative of query i, whatever the scores."""
        g = self.group_size
        own = [i * g + p for p in range(self.positives)]
        if j in own:
            return True
        if self.document_pools is not None and self.document_pools[j] != self.query_pools[i]:
            return True
        ids = self.document_ids
        if ids is not None and ids[j] != 0:
            if ids[j] in [ids[p] for p in own]:
                return True
            if self.known is not None and ids[j] in list(self.known[i]):
                return True
        if self.query_ids is not None and j % g < self.positives and self.query_ids[i] != 0:
            return self.query_ids[j // g] == self.query_ids[i]
        return False

    def too_similar(self, i, similarity, guided):
        """Whether scores, taken where there is no gradient, say that a pair is no negative."""
        own = self.around.positive(i)
        limits = []
        if self.above_positive is not None:
            limits.append(own + self.above_positive)
        if self.relative_to_positive is not None:
            limits.append(own - (1 - self.relative_to_positive) * abs(own))
        if any(similarity > limit for limit in limits):
            return True
        if self.guide_queries is None:
            return False
        guide = self.guide_queries[i] @ self.guide_documents[i * self.group_size]
        return guided > guide - self.guide_margin

    def negatives(self, i, direction="query_to_document"):
        """Similarities of query i, or of its positive, to what it should be far from."""
        g, batch = self.group_size, len(self.q)
        kind = direction.split("_to_")
        x, guide_x = self._of(kind[0])
        y, guide_y = self._of(kind[1])
        first = i if kind[0] == "query" else i * g
        found = []
        for j in range(batch if kind[1] == "query" else batch * g):
            if direction == "query_to_document":
                masked = self.is_masked(i, j) or not (self.in_batch or j // g == i)
            elif direction == "document_to_query":
                masked = self.is_masked(j, i * g)
            elif direction == "query_to_query":
                masked = self.is_masked(i, j * g) or self.is_masked(j, i * g)
            else:
                masked = self.is_masked(i, j) or j // g == i
            similarity = float(self.around._of(kind[0])[0][first] @ self.around._of(kind[1])[0][j])
            guided = guide_x[first] @ guide_y[j] if guide_x is not None else 0.0
            if not masked and not self.too_similar(i, similarity, guided):
                found.append((j, float(x[first] @ y[j]), similarity))
        return found

    def _of(self, kind):
        if kind == "query":
            return self.q, self.guide_queries
        return self.d, self.guide_documents


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def log_sum_exp(values):
    if not values:
        return -math.inf
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


def cross_entropy(positive, others):
    """-log of the positive's share."""
    # Relative to the positive: a logit of 50 would leave 14 digits of a loss of log 2.
    return 0.0 if not others else softplus(log_sum_exp([x - positive for x in others]))


def info_nce(
    w,
    directions=(("query_to_document",),),
    margin=0.0,
    hardness=0.0,
    harder="all",
    label_smoothing=0.0,
    inside=False,
):
    losses = np.zeros(len(w.q))
    for i, t in enumerate(w.t):
        for softmax in directions:
            others = []
            for name in softmax:
                for j, s, fixed in w.negatives(i, name):
                    own = j // w.group_size == i
                    chosen = {"all": True, "in_batch": not own, "hard": own}[harder]
                    bonus = hardness * fixed if name == "query_to_document" and chosen else 0.0
                    others.append((s / t + bonus, s / t))
            logits = [(w.s(i, p) - margin) / t for p in w.own(i)]
            if {"query_to_document", "document_to_query"} <= set(softmax):
                others.append((logits[0], logits[0]))
            weighted = [a for a, _ in others]
            if inside:
                loss = cross_entropy(log_sum_exp(logits), weighted)
            else:
                loss = np.mean([cross_entropy(logit, weighted) for logit in logits])
            if label_smoothing:
                among = [logits[0], *(b for _, b in others)]
                if {"query_to_document", "document_to_query"} <= set(softmax):
                    among.pop()
                loss += label_smoothing * (logits[0] - np.mean(among))
            losses[i] += loss / len(directions)
    return losses


def decoupled(w, sigma=None):
    losses = np.zeros(len(w.q))
    positives = [w.positive(i) for i in range(len(w.q))]
    for i, t in enumerate(w.t):
        others = [s / t for _, s, _ in w.negatives(i)]
        weight = 1.0
        if sigma is not None:
            shares = [math.exp(s / sigma) for s in positives]
            weight = 2 - shares[i] / np.mean(shares)
        if others:
            losses[i] = log_sum_exp(others) - weight * positives[i] / t
    return losses


def hard_negative(w, beta=1.0, tau_plus=0.1):
    losses = np.zeros(len(w.q))
    for i, t in enumerate(w.t):
        others = [s / t for _, s, _ in w.negatives(i)]
        if not others:
            continue
        n, own = len(others), w.positive(i) / t
        weighted = log_sum_exp([(1 + beta) * x for x in others])
        log_r = weighted - log_sum_exp([beta * x for x in others]) + math.log(n)
        # Relative to the positive, so that nothing overflows.
        kept = math.exp(min(log_r - own, 700)) - tau_plus * n
        floor = math.log(n) - 1 / t - own
        x = max(math.log(kept / (1 - tau_plus)), floor) if kept > 0 else floor
        losses[i] = softplus(x)
    return losses


def hardest(w, top):
    losses = np.zeros(len(w.q))
    for i, t in enumerate(w.t):
        order = sorted(w.negatives(i), key=lambda n: -n[2])[:top]
        losses[i] = cross_entropy(w.positive(i) / t, [s / t for _, s, _ in order])
    return losses


def dual_temperature(w, ratio=10.0):
    def odds(world, i, t):
        return log_sum_exp([s / t for _, s, _ in world.negatives(i)]) - world.positive(i) / t

    losses = np.zeros(len(w.q))
    for i, t in enumerate(w.t):
        if not w.negatives(i):
            continue
        base, t0 = w.around, w.around.t[i]
        weight = sigmoid(odds(base, i, t0 * ratio)) / sigmoid(odds(base, i, t0))
        losses[i] = weight * softplus(odds(w, i, t))
    return losses


def sigmoid(x):
    return math.exp(-softplus(-x))


def artanh(w):
    losses = np.zeros(len(w.q))
    for i, t in enumerate(w.t):
        others = [math.atanh(s) / t for _, s, _ in w.negatives(i)]
        losses[i] = cross_entropy(math.atanh(w.positive(i)) / t, others)
    return losses


def model_aware(w, alpha=0.5, alignment=0.0):
    losses = np.zeros(len(w.q))
    base = w.around
    aligned = np.mean([base.positive(i) for i in range(len(w.q))])
    factor = 1 + alpha * (aligned - alignment)

    def odds(world, i):
        t = world.t[i] * factor
        return log_sum_exp([s / t for _, s, _ in world.negatives(i)]) - world.positive(i) / t

    for i in range(len(w.q)):
        if w.negatives(i):
            losses[i] = softplus(odds(w, i)) / sigmoid(odds(base, i))
    return losses


def siglip(w):
    losses = np.zeros(len(w.q))
    for i, t in enumerate(w.t):
        yes = sum(softplus(-(w.s(i, p) / t + w.bias)) for p in w.own(i))
        losses[i] = yes + sum(softplus(s / t + w.bias) for _, s, _ in w.negatives(i))
    return losses


def triplet(w, margin=0.2):
    losses = np.zeros(len(w.q))
    for i in range(len(w.q)):
        hinges = [max(0.0, s - w.positive(i) + margin) for _, s, _ in w.negatives(i)]
        losses[i] = np.mean(hinges) if hinges else 0.0
    return losses


def align_uniform(w, power=2.0, sharpness=2.0, weight=1.0):
    def uniformity(direction):
        terms = [
            math.exp(-sharpness * (2 - 2 * s))
            for i in range(len(w.q))
            for _, s, _ in w.negatives(i, direction)
        ]
        return math.log(np.mean(terms)) if terms else 0.0

    both = (uniformity("query_to_query") + uniformity("document_to_document")) / 2
    distances = [np.sum((q - d) ** 2) for q, d in zip(w.q, w.d[:: w.group_size], strict=True)]
    return np.array([max(x, 1e-12) ** (power / 2) + weight * both for x in distances])


def spread_out(w, mean_weight=1.0, second_moment_weight=1.0):
    total = 0.0
    for direction in ("query_to_query", "document_to_document"):
        found = [s for i in range(len(w.q)) for _, s, _ in w.negatives(i, direction)]
        if not found:
            continue
        total += mean_weight * np.mean(found) ** 2 / 2
        excess = np.mean(np.square(found)) - 1 / w.q.shape[1]
        total += second_moment_weight * max(0.0, excess) / 2
    return np.full(len(w.q), total)


def margin_mse(w, scores):
    losses, g = np.zeros(len(w.q)), w.group_size
    for i in range(len(w.q)):
        squares = [
            (w.positive(i) - w.s(i, i * g + k) - float(scores[i][0] - scores[i][k])) ** 2
            for k in range(1, g)
            if w.document_pools is None or w.document_pools[i * g + k] >= 0
        ]
        losses[i] = np.mean(squares) if squares else 0.0
    return losses


def listwise(w, relevance, target="softmax"):
    losses, g = np.zeros(len(w.q)), w.group_size
    for i, t in enumerate(w.t):
        there = [
            k for k in range(g) if w.document_pools is None or w.document_pools[i * g + k] >= 0
        ]
        logits = [w.s(i, i * g + k) / t for k in there]
        grades = [float(relevance[i][k]) for k in there]
        if target == "softmax":
            shares = [math.exp(y - log_sum_exp(grades)) for y in grades]
        else:
            shares = [y / sum(grades) if sum(grades) else 0.0 for y in grades]
        top = log_sum_exp(logits)
        losses[i] = sum(y * (top - logit) for y, logit in zip(shares, logits, strict=True))
    return losses


def ordered(similarities, scores, t):
    """CoSENT of pairs."""
    terms = [
        (similarities[j] - similarities[i]) / t
        for i in range(len(scores))
        for j in range(len(scores))
        if scores[i] > scores[j]
    ]
    return np.full(len(scores), cross_entropy(0.0, terms))


def cosent(w, scores):
    return ordered([w.positive(i) for i in range(len(w.q))], scores, w.t[0])


def angle(w, scores):
    similarities = []
    for x, y in zip(w.q, w.d, strict=True):
        x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
        half = len(x) // 2
        z = np.sum((x[:half] + 1j * x[half:]) * np.conj(y[:half] + 1j * y[half:]))
        similarities.append(abs(z.real + z.imag))
    return ordered(similarities, scores, w.t[0])


def sup_con(x, labels, t, inside=False):
    losses = np.zeros(len(x))
    for i in range(len(x)):
        logits = {a: float(x[i] @ x[a]) / t[i] for a in range(len(x)) if a != i}
        own = [logits[a] for a in logits if labels[a] == labels[i]]
        if own:
            mean = log_sum_exp(own) - math.log(len(own)) if inside else np.mean(own)
            losses[i] = log_sum_exp(list(logits.values())) - mean
    return losses


def sogclr(w, log_average, gamma=0.8, rho=0.0):
    """Losses, and the new averages."""
    losses, averages = np.zeros(len(w.q)), np.array(log_average, np.float64)

    def g(world, i):
        terms = [math.exp((s - world.positive(i)) / world.t[i]) for _, s, _ in world.negatives(i)]
        return np.mean(terms)

    for i in range(len(w.q)):
        if not w.negatives(i):
            continue
        base, now = w.around, g(w.around, i)
        old = now if averages[i] == -math.inf else math.exp(averages[i])
        u = (1 - gamma) * old + gamma * now
        averages[i] = math.log(u)
        # d/dw [t / u g] and d/dt [t (log u + rho)], with u a constant but for g in it.
        losses[i] = w.t[i] * (math.log(u) + rho) + base.t[i] / u * (g(w, i) - now)
    return losses, averages


def similarity_gradients(loss, world, cotangent, directions):
    """Of the weighted sum of the losses, along each direction of each input.

    By central differences. An entry of a gradient that is wrong shows in nearly every direction.
    """
    found = one_sided_slopes(loss, world, cotangent, directions)
    return {name: (forth + back) / 2 for name, (forth, back) in found.items()}


def one_sided_slopes(loss, world, cotangent, directions):
    """As `slopes`, forth and back: far apart where a maximum has a kink between them."""
    # What a logit is sensitive to is a change against t: that of rounding, and of the curve.
    step = 1e-4 * min(1.0, np.min(world.t))
    here = loss(dataclasses.replace(world, base=world)) @ cotangent

    def slope(name, along, signed):
        near = dataclasses.replace(world, **{name: getattr(world, name) + signed * along})
        near.base = world
        return float(loss(near) @ cotangent - here) / signed

    return {
        name: [np.array([slope(name, x, signed) for x in those]) for signed in (step, -step)]
        for name, those in directions.items()
    }
