"""Contrastive losses: pure functions of arrays, one value per query."""

from contrastive.losses.distill import distill_kl as distill_kl
from contrastive.losses.distill import distill_m3 as distill_m3
from contrastive.losses.infonce import info_nce as info_nce
from contrastive.losses.partition import log_partition as log_partition
from contrastive.losses.similarity import cosine as cosine
from contrastive.losses.similarity import dot as dot
from contrastive.losses.similarity import normalize as normalize
