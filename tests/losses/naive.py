"""The truth the losses are held to: double loops in float64."""

import math

import numpy as np


def is_masked(i, j, group_size, query_ids, document_ids, known):
    """Whether document j is no negative of query i, from the rules' words."""
    if j == i * group_size:
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
    cotangent=None,
):
    """Losses, and the gradient of their weighted sum in queries, documents and each temperature."""
    q, d = np.asarray(queries, np.float64), np.asarray(documents, np.float64)
    batch = len(q)
    t = np.broadcast_to(np.asarray(temperature, np.float64), (batch,))
    weight = np.ones(batch) if cotangent is None else np.asarray(cotangent, np.float64)
    losses = np.zeros(batch)
    dq, dd, dt = np.zeros_like(q), np.zeros_like(d), np.zeros(batch)
    for i in range(batch):
        positive = i * group_size
        kept = [positive]
        for j in range(len(d)):
            own = j // group_size == i
            if (in_batch or own) and not is_masked(
                i, j, group_size, query_ids, document_ids, known
            ):
                kept.append(j)
        logits = [float(q[i] @ d[j]) / t[i] for j in kept]
        top = max(logits)
        total = sum(math.exp(x - top) for x in logits)
        log_z = top + math.log(total)
        # log Z - s+ without cancellation: log(1 + sum of the others relative to the positive).
        others = [x - logits[0] for x in logits[1:]]
        losses[i] = _softplus_sum(others)
        for logit, j in zip(logits, kept, strict=True):
            p = math.exp(logit - log_z)
            g = p - 1.0 if j == positive else p
            if j == positive:  # 1 - p by the others, again without cancellation
                g = -sum(math.exp(x - log_z) for x in logits[1:])
            g *= weight[i]
            dq[i] += g * d[j] / t[i]
            dd[j] += g * q[i] / t[i]
            dt[i] -= g * logit / t[i]
    return losses, dq, dd, dt


def _softplus_sum(others):
    if not others:
        return 0.0
    top = max(others)
    log_sum = top + math.log(sum(math.exp(x - top) for x in others))
    return math.log1p(math.exp(log_sum)) if log_sum < 30 else log_sum + math.exp(-log_sum)
