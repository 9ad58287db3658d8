"""The truth the losses are held to: double loops in float64."""

import math

import numpy as np


def is_masked(
    i, j, group_size, query_ids, document_ids, known, query_pools=None, document_pools=None
):
    """Whether document j is no negative of query i, from the rules' words."""
    if j == i * group_size:
        return True
    if document_pools is not None and document_pools[j] != query_pools[i]:
        return True
    if document_ids is not None:
        if document_ids[j] != 0 and document_ids[j] == document_ids[i * group_size]:
            return True
        if known is not None and document_ids[j] != 0 and document_ids[j] in list(known[i]):
            return True
    if query_ids is not None and j % group_size == 0 and query_ids[i] != 0:
        return query_ids[j // group_size] == query_ids[i]
    return False


def info_nce(
    queries,
    documents,
    temperature,
    group_size=1,
    in_batch=True,
    query_ids=None,
    document_ids=None,
    known=None,
    query_pools=None,
    document_pools=None,
    cotangent=None,
):
    """Losses, and the gradient of their weighted sum in queries, documents and each temperature."""
    sums = _Sums(queries, documents, temperature, cotangent)
    ids = (query_ids, document_ids, known, query_pools, document_pools)
    for i in range(len(sums.losses)):
        negatives = [
            j
            for j in range(len(documents))
            if (in_batch or j // group_size == i) and not is_masked(i, j, group_size, *ids)
        ]
        sums.add(i, i * group_size, negatives)
    return sums.result()


def distill_kl(
    queries,
    documents,
    teacher_scores,
    temperature,
    teacher_temperature=1.0,
    document_pools=None,
    cotangent=None,
):
    """As `info_nce`; the cross-entropy of each place against its own group, by the teacher."""
    sums = _Sums(queries, documents, temperature, cotangent)
    for i, row in enumerate(teacher_scores):
        own = _own(i, len(row), document_pools)
        for j, share in _teacher(row, own, teacher_temperature):
            sums.add(i, j, [other for other in own if other != j], share)
    return sums.result()


def distill_m3(
    queries,
    documents,
    teacher_scores,
    temperature,
    teacher_temperature=1.0,
    in_batch=True,
    query_ids=None,
    document_ids=None,
    known=None,
    query_pools=None,
    document_pools=None,
    cotangent=None,
):
    """As `info_nce`; each place as the positive, against the later ones and others' documents."""
    sums = _Sums(queries, documents, temperature, cotangent)
    size = len(teacher_scores[0])
    ids = (query_ids, document_ids, known, query_pools, document_pools)
    for i, row in enumerate(teacher_scores):
        own = _own(i, size, document_pools)
        others = [
            j
            for j in range(len(documents))
            if in_batch and j // size != i and not is_masked(i, j, size, *ids)
        ]
        for j, share in _teacher(row, own, teacher_temperature):
            sums.add(i, j, [later for later in own if later > j] + others, share)
    return sums.result()


def _own(i, size, document_pools):
    places = range(i * size, (i + 1) * size)
    return [j for j in places if document_pools is None or document_pools[j] >= 0]


def _teacher(row, own, temperature):
    """Each document of the group with its share of the teacher's softmax."""
    scores = [float(row[j % len(row)]) / temperature for j in own]
    weights = [math.exp(score - max(scores)) for score in scores]
    return [(j, weight / sum(weights)) for j, weight in zip(own, weights, strict=True)]


class _Sums:
    """Losses and gradients, a softmax at a time."""

    def __init__(self, queries, documents, temperature, cotangent):
        self.q, self.d = np.asarray(queries, np.float64), np.asarray(documents, np.float64)
        batch = len(self.q)
        self.t = np.broadcast_to(np.asarray(temperature, np.float64), (batch,))
        self.weight = np.ones(batch) if cotangent is None else np.asarray(cotangent, np.float64)
        self.losses, self.dt = np.zeros(batch), np.zeros(batch)
        self.dq, self.dd = np.zeros_like(self.q), np.zeros_like(self.d)

    def add(self, i, positive, negatives, share=1.0):
        """Adds `share` times the cross-entropy of query i: the positive against the negatives."""
        q, d, t = self.q, self.d, self.t
        kept = [positive, *negatives]
        logits = [float(q[i] @ d[j]) / t[i] for j in kept]
        top = max(logits)
        log_z = top + math.log(sum(math.exp(x - top) for x in logits))
        # log Z - s+ without cancellation: log(1 + sum of the others relative to the positive).
        self.losses[i] += share * _softplus_sum([x - logits[0] for x in logits[1:]])
        for place, (logit, j) in enumerate(zip(logits, kept, strict=True)):
            g = math.exp(logit - log_z)
            if place == 0:  # p - 1 by the others, again without cancellation
                g = -sum(math.exp(x - log_z) for x in logits[1:])
            g *= share * self.weight[i]
            self.dq[i] += g * d[j] / t[i]
            self.dd[j] += g * q[i] / t[i]
            self.dt[i] -= g * logit / t[i]

    def result(self):
        return self.losses, self.dq, self.dd, self.dt


def _softplus_sum(others):
    if not others:
        return 0.0
    top = max(others)
    log_sum = top + math.log(sum(math.exp(x - top) for x in others))
    return math.log1p(math.exp(log_sum)) if log_sum < 30 else log_sum + math.exp(-log_sum)
