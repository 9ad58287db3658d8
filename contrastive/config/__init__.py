"""Experiment configs: frozen, validated, stored with the run as JSON."""

from contrastive.config.base import Config as Config
from contrastive.config.base import differences as differences
from contrastive.config.base import flatten as flatten
from contrastive.config.data import Data as Data
from contrastive.config.data import HeldOut as HeldOut
from contrastive.config.data import Jsonl as Jsonl
from contrastive.config.data import Mixture as Mixture
from contrastive.config.data import Part as Part
from contrastive.config.data import Pretrained as Pretrained
from contrastive.config.data import Pydoc as Pydoc
from contrastive.config.data import Source as Source
from contrastive.config.data import Training as Training
from contrastive.config.data import WordPiece as WordPiece
from contrastive.config.experiment import Experiment as Experiment
from contrastive.config.loss import Distill as Distill
from contrastive.config.loss import Fixed as Fixed
from contrastive.config.loss import Learned as Learned
from contrastive.config.loss import Loss as Loss
from contrastive.config.model import Checkpoint as Checkpoint
from contrastive.config.model import Model as Model
from contrastive.config.model import Static as Static
from contrastive.config.model import Transformer as Transformer
from contrastive.config.optimizer import Optimizer as Optimizer
