"""A threshold for "the same person" from labelled embeddings of people whom the model was not trained on.

Pairs are a query and a gallery tracklet. Pairs of one person and one camera are junk, as in the protocols, and so is a
tracklet with itself; distractors are people of their own. The threshold is the largest distance at which no more than
the chosen share of pairs of two people (or of searches) is accepted.

Intervals are percentile bootstraps over people: a person is drawn with all its tracklets, and a pair of two people
counts as often as both were drawn. Pairs of one person are alike, so an interval over pairs would be too narrow. Where
nothing was seen (or everything), the rule of three over people bounds the rate.

How small a rate can be measured: with no error in n independent trials the rate is below 3 / n with 95 % confidence
(rule of three), and 30 errors give it to within 30 % with 90 % confidence (rule of 30; Doddington et al., Speech
Communication 31, 2000). Pairs of tracklets are not independent; pairs of people are taken as the trials, which is still
generous, as each person is in many.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.labels import DISTRACTOR, JUNK
from pvlad_jax.evaluation.distances import pairwise_distance
from pvlad_jax.evaluation.embeddings import Embeddings, one_model
from pvlad_jax.evaluation.pair_distances import BINS, PairDistances, distance_bin
from pvlad_jax.evaluation.protocols import PROTOCOLS, check_labels, default_protocol, label_arrays
from pvlad_jax.evaluation.threshold import LARGEST_DISTANCE, Calibration, Estimate

PER = ('pair', 'search')
_BLOCK_PAIRS = 2**22  # whose distances are held at a time
_FEW_PEOPLE = 30
_ROUNDING = 1e-12  # of products and quotients of rates, as a share


def calibrate(
    query: Embeddings,
    gallery: Embeddings,
    false_accept_rate: float = 0.01,
    *,
    per: str = 'pair',
    nobody_miss_rate: float = 0.05,
    model: str = '',
    unknown_cameras: str = 'refuse',
    resamples: int = 1000,
    seed: int = 0,
    done: Callable[[int], None] = lambda count: None,
) -> Calibration:
    """The threshold, with what it costs.

    Args:
      query, gallery: labelled embeddings; they may be the same table, or share tracklets.
      false_accept_rate: share of pairs of two people, or of searches for somebody who is not there, that may be
        accepted.
      per: 'pair' or 'search'.
      nobody_miss_rate: share of the searches for people in the gallery that may end in "nobody here".
      model: fingerprint of the model, written into the result; '' = the tables' own.
      unknown_cameras: what camera -1 is ('refuse', 'other', 'ignore', as in the protocols).
      resamples, seed: of the bootstrap.
      done: called with the number of queries whose distances were computed, and of resamples.

    Raises:
      UserError: labels that are wrong, no pairs of one kind, or too few people for the rate.
    """
    if not 0 < false_accept_rate < 1 or not 0 < nobody_miss_rate < 1:
        raise UserError('Rates are shares between 0 and 1, such as 0.01.')
    if per not in PER:
        raise UserError(f'per is {per!r}; allowed are {", ".join(PER)}.')
    own = one_model({'queries': query, 'gallery': gallery})
    if model and own and model != own:
        raise UserError(f'The embeddings are of the model {own}, not of {model}: calibrate with those of that model.')
    query, gallery = query.checked('queries'), gallery.checked('gallery')
    gallery = gallery.select(gallery.person_id != JUNK)
    if not len(gallery):
        raise UserError('The gallery holds junk (person -1) alone.')
    protocol = PROTOCOLS[default_protocol(query, gallery, unknown_cameras)]
    blind = protocol.name == 'all_but_query'
    check_labels(protocol, query, gallery, unknown_cameras)
    people, of_query, of_gallery = _identities(query, gallery)
    warnings = _check_counts(false_accept_rate, per, of_query, of_gallery)
    if blind:
        warnings.append(
            'No cameras are known: pairs of one person and one camera count, and those are easier than others.'
        )
    pairs = PairDistances(of_query, of_gallery, false_accept_rate)
    scores = pairwise_distance(query, gallery)
    query_arrays, gallery_arrays = label_arrays(query, gallery)
    block = max(_BLOCK_PAIRS // len(gallery), 1)
    for start in range(0, len(query), block):
        rows = np.arange(start, min(start + block, len(query)))
        good, ignored = protocol.relevance_of(rows, query_arrays, gallery_arrays, unknown_cameras)
        pairs.add(rows, scores.distances(rows), good, ignored)
        done(len(rows))
    if not pairs.n_one or not pairs.n_two:
        raise UserError(
            f'There are {pairs.n_one} pairs of one person (seen by two cameras) and {pairs.n_two} of two '
            'people; both are needed. Are these the right files, and their labels in step?'
        )
    return _Estimator(pairs, people, false_accept_rate, per, nobody_miss_rate, resamples, seed, done).calibration(
        model=model or own, gallery=len(gallery), warnings=warnings
    )


def _identities(query: Embeddings, gallery: Embeddings) -> tuple[int, Int[np.ndarray, 'Q'], Int[np.ndarray, 'N']]:
    """(how many, number of each query, of each gallery tracklet); every distractor is somebody else."""
    known, codes = np.unique(np.concatenate([query.person_id, gallery.person_id]), return_inverse=True)
    of_query, of_gallery = codes[: len(query)], codes[len(query) :].copy()
    distractors = gallery.person_id == DISTRACTOR
    of_gallery[distractors] = len(known) + np.arange(distractors.sum())
    numbers, packed = np.unique(np.concatenate([of_query, of_gallery]), return_inverse=True)
    return len(numbers), packed[: len(query)], packed[len(query) :]


def _check_counts(rate: float, per: str, of_query: Int[np.ndarray, 'Q'], of_gallery: Int[np.ndarray, 'N']) -> list[str]:
    """Warnings; UserError where the rate is below what this number of people can show."""
    asked, there = np.unique(of_query), np.unique(of_gallery)
    both = len(np.intersect1d(asked, there))
    n_pairs = len(asked) * len(there) - both - both * (both - 1) // 2  # of two people, each once
    trials, kind = (n_pairs, 'pairs of people') if per == 'pair' else (len(asked), 'people searched for')
    if not _gives(rate, trials, 3):
        smallest = _smallest_rate(trials, 3)
        raise UserError(
            f'A false-accept rate of {rate:g} for each {per} cannot be measured with {len(asked)} people '
            f'among the queries and {len(there)} in the gallery: that needs at least '
            f'{int(np.ceil(3 / rate * (1 - _ROUNDING))):,} {kind} (rule of three), there are {trials:,}. '
            + (f'The smallest rate is {smallest:g}.' if smallest else 'No rate can be: more people are needed.')
        )
    warnings = []
    if not _gives(rate, trials, 30):
        well = _smallest_rate(trials, 30)
        warnings.append(
            f'Few people for this rate: {trials:,} {kind} make {trials * rate:.1f} false accepts expected; '
            '30 would give the rate to within 30 % (rule of 30). '
            + (f'{well:g} could be measured that well.' if well else 'For that, at any rate, more people are needed.')
        )
    if len(asked) < _FEW_PEOPLE:
        warnings.append(
            f'The queries show {len(asked)} people: with fewer than {_FEW_PEOPLE}, intervals are too narrow.'
        )
    return warnings


def _gives(rate: float, trials: int, errors: int) -> bool:
    """Whether so many errors are expected at this rate."""
    return trials * rate >= errors * (1 - _ROUNDING)


def _smallest_rate(trials: int, errors: int) -> float | None:
    """At which so many errors are expected, rounded up to two digits, so that it can be asked for; None where no rate
    below 1 gives them."""
    if trials <= errors:
        return None
    digits = 1 - math.floor(math.log10(errors / trials))
    return round(math.ceil(errors / trials * 10**digits * (1 - _ROUNDING)) / 10**digits, digits)


class _Estimator:
    """Threshold and rates, of the people as they are and of resamples of them."""

    def __init__(
        self,
        pairs: PairDistances,
        people: int,
        rate: float,
        per: str,
        nobody_rate: float,
        resamples: int,
        seed: int,
        done: Callable[[int], None],
    ):
        self.pairs, self.people, self.rate, self.per, self.nobody_rate = pairs, people, rate, per, nobody_rate
        self.resamples, self.seed, self.done = resamples, seed, done
        order = np.argsort(pairs.tail[0], kind='stable')
        self.tail = tuple(part[order] for part in pairs.tail)
        self.one, self.one_person = np.concatenate(pairs.one), np.concatenate(pairs.one_person)
        self.per_query = np.bincount(pairs.of_query, minlength=people).astype(np.float64)
        self.per_gallery = np.bincount(pairs.of_gallery, minlength=people).astype(np.float64)
        self.by_nearest = np.argsort(pairs.nearest_two, kind='stable')

    def calibration(self, model: str, gallery: int, warnings: list[str]) -> Calibration:
        whole = np.ones(self.people)
        same = self.threshold(whole)
        there = np.isfinite(self.pairs.nearest_one)
        nobody = max(same, float(np.quantile(self.pairs.nearest_one[there], 1 - self.nobody_rate, method='higher')))
        values = self.rates(whole, same, nobody)
        rng = np.random.default_rng(self.seed)
        drawn = []
        for _ in range(self.resamples):
            weights = np.bincount(rng.integers(0, self.people, self.people), minlength=self.people).astype(np.float64)
            drawn.append({'same': self.threshold(weights), **self.rates(weights, same, nobody)})
            self.done(1)
        people = len(np.unique(self.pairs.of_query))
        estimates = {
            name: Estimate(value, *_interval([d[name] for d in drawn], value, 0 if name == 'same' else people))
            for name, value in {'same': same, **values}.items()
        }
        curve = self.curve()
        return Calibration(
            model=model,
            false_accept_rate=self.rate,
            per=self.per,
            same=estimates.pop('same'),
            nobody=nobody,
            nobody_miss_rate=self.nobody_rate,
            false_accepts=estimates.pop('false_accepts'),
            misses=estimates.pop('misses'),
            open_set=estimates,
            people=people,
            identities=self.people,
            queries=len(self.pairs.of_query),
            gallery=gallery,
            pairs_of_one_person=self.pairs.n_one,
            pairs_of_two_people=self.pairs.n_two,
            warnings=warnings,
            curve=curve,
        )

    def threshold(self, weights: Float[np.ndarray, 'p']) -> float:
        """The largest distance at which no more than the share is accepted."""
        if self.per == 'pair':
            distance, weight = self.tail[0], weights[self.tail[1]] * weights[self.tail[2]]
            total = self.pairs_of_two(weights)
        else:
            distance = self.pairs.nearest_two[self.by_nearest]
            weight = weights[self.pairs.of_query[self.by_nearest]]
            total = weight.sum()
        above = np.searchsorted(np.cumsum(weight), self.rate * total * (1 + _ROUNDING), side='right')
        if above >= len(distance) or distance[above] == np.inf:  # infinite: searches that have nobody else to find
            return min(float(distance[-1]), LARGEST_DISTANCE)
        # Just below the first pair that would be too many, and not among its equals.
        return float(np.nextafter(np.float32(distance[above]), np.float32(-np.inf)))  # as the distances are float32

    def pairs_of_two(self, weights: Float[np.ndarray, 'p']) -> float:
        return float(
            (weights @ self.per_query) * (weights @ self.per_gallery)
            - (weights**2 * self.per_query * self.per_gallery).sum()
        )

    def rates(self, weights: Float[np.ndarray, 'p'], same: float, nobody: float) -> dict[str, float]:
        """Of pairs at `same`, and of searches at both thresholds."""
        accepted = np.searchsorted(self.tail[0], same, side='right')
        false_accepts = _share(
            (weights[self.tail[1][:accepted]] * weights[self.tail[2][:accepted]]).sum(), self.pairs_of_two(weights)
        )
        of_one = weights[self.one_person]
        misses = _share(of_one[self.one > same].sum(), of_one.sum())
        one, two = self.pairs.nearest_one, self.pairs.nearest_two
        each = weights[self.pairs.of_query]
        absent = {'absent_nobody': two > nobody, 'absent_same': two <= same}
        there = np.isfinite(one)
        nearest = np.minimum(one, two)
        present = {
            'present_same': (one <= same) & (one < two),
            'present_wrong_person': (two <= same) & (two <= one),
            'present_nobody': nearest > nobody,
        }
        if self.per == 'search':
            false_accepts = _share(each[absent['absent_same']].sum(), each.sum())
        return {
            'false_accepts': false_accepts,
            'misses': misses,
            **{name: _share(each[mask].sum(), each.sum()) for name, mask in absent.items()},
            **{name: _share(each[mask & there].sum(), each[there].sum()) for name, mask in present.items()},
        }

    def curve(self) -> dict[str, list[float]]:
        """Both error rates over the threshold, at the places where one of them changes visibly."""
        one = np.cumsum(np.bincount(distance_bin(self.one), minlength=BINS + 1)) / self.pairs.n_one
        two = np.cumsum(self.pairs.histogram_two) / self.pairs.n_two
        with np.errstate(divide='ignore'):
            place = np.round(one * 200) + 1000 * np.round(np.log10(np.maximum(two, 0.1 / self.pairs.n_two)) * 20)
        kept = np.flatnonzero(np.diff(place, prepend=np.nan) != 0)
        # A bin's upper edge: all of its distances are below.
        return {
            'threshold': ((kept + 1) * (2 / BINS)).tolist(),
            'false_accepts': two[kept].tolist(),
            'misses': (1 - one[kept]).tolist(),
        }


def _share(part: float, total: float) -> float:
    return float(part / total) if total > 0 else float('nan')


def _interval(values: list[float], value: float, trials: int) -> tuple[float, float]:
    """The middle 95 % of resamples. Of a rate over `trials` people, in whom nothing or everything was seen, resamples
    see the same; then the rule of three gives the other end."""
    finite = np.array([v for v in values if np.isfinite(v)] or [value])
    low, high = (float(v) for v in np.quantile(finite, (0.025, 0.975)))
    if trials and value == 0:
        high = max(high, min(3 / trials, 1.0))
    if trials and value == 1:
        low = min(low, max(1 - 3 / trials, 0.0))
    return min(low, value), max(high, value)
