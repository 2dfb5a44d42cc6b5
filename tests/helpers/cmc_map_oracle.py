"""The plain evaluator that the fast one must equal: sorts every query's whole gallery and walks down the list, in
Python.
"""

import numpy as np


def judge(protocol, q_person, q_camera, q_name, g_person, g_camera, g_name, unknown_cameras='refuse'):
    """'good', 'ignored' or 'negative', by the words of the protocols' table."""
    if g_person == -1 or q_name == g_name:
        return 'ignored'
    if protocol == 'all_but_query':
        return 'good' if q_person == g_person else 'negative'
    if q_camera == -1 or g_camera == -1:
        same_camera = unknown_cameras == 'ignore'
    else:
        same_camera = q_camera == g_camera
    if protocol == 'cross_camera':
        if same_camera:
            return 'ignored'
        return 'good' if q_person == g_person else 'negative'
    if q_person != g_person:
        return 'negative'
    return 'ignored' if same_camera else 'good'


def walk(distances, verdicts):
    """(num_matches, first rank, AP, trapezoidal AP, INP) of one query; among equal distances negatives come first.

    None without a match.
    """
    num_matches = sum(v == 'good' for v in verdicts)
    if not num_matches:
        return None
    ranked = sorted((d, v == 'good') for d, v in zip(distances, verdicts) if v != 'ignored')
    hits, ap, trapezoidal, ranks = 0, 0.0, 0.0, []
    old_recall, old_precision = 0.0, 1.0
    for rank, (_, good) in enumerate(ranked, start=1):
        hits += good
        recall, precision = hits / num_matches, hits / rank
        trapezoidal += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
        if good:
            ap += precision / num_matches
            ranks.append(rank)
    return num_matches, ranks[0], ap, trapezoidal, num_matches / ranks[-1]


def evaluate(distances, query, gallery, protocol, unknown_cameras='refuse'):
    """One row a query: num_matches, first rank, AP, trapezoidal AP, INP; NaN (num_matches 0) where there is no good
    tracklet.
    """
    asked, stored = (list(zip(t.person_id, t.camera_id, t.tracklet)) for t in (query, gallery))
    rows = []
    for labels, distance in zip(asked, distances):
        verdicts = [judge(protocol, *labels, *others, unknown_cameras) for others in stored]
        rows.append(walk(distance, verdicts) or (0, *[np.nan] * 4))
    return np.array(rows)
