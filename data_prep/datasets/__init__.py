"""The kinds of raw data that can be built: a file (or a folder) for each, and a line in DATASETS."""

from data_prep.datasets import ilids_vid, prid2011, synthetic
from data_prep.datasets.mars import scan as mars
from data_prep.datasets.tracklet_folder import scan as tracklet_folder
from pvlad_jax.core.registry import Registry

DATASETS = Registry(
    '--dataset',
    {
        'synthetic': synthetic.SOURCE,
        'tracklet_folder': tracklet_folder.SOURCE,
        'mars': mars.SOURCE,
        'ilids_vid': ilids_vid.SOURCE,
        'prid2011': prid2011.SOURCE,
    },
)
