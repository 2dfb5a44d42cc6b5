"""Synthetic walkers, built on first use: from nothing to a trained, evaluated network in minutes on two CPU cores.

python main.py --config=configs/synthetic.py --workdir=runs/demo
python main.py --config=configs/synthetic.py:twins --workdir=runs/twins      people in pairs that differ by gait alone
"""

from configs import default


def get_config(arguments: str = ''):
    names = [a for a in arguments.split(',') if a]
    twins = 'twins' in names
    c = default.get_config()
    c.dataset.name = 'synthetic_twins' if twins else 'synthetic'
    c.dataset.build_options = {
        'train_people': 64,
        'test_people': 32,
        'cameras': 3,
        'tracklets_per_camera': 6 if twins else 2,
        'twins': twins,
        'seed': 0,
    }
    c.clips.height, c.clips.width = 64, 32
    c.evaluation.clips_per_step = 16  # on two cores a tenth faster than 32
    c.augment.pad = 3
    c.model.embedding_dim = 256
    c.model.bnneck = True  # from scratch, the losses on a bare embedding collapse it to a point
    c.optimizer.learning_rate = 2e-3
    c.training.steps = 300 if twins else 280
    c.training.eval_every = 0  # at the end: an evaluation takes as long as 25 steps
    c.training.checkpoint_every = 100
    if twins:
        # A pair always meets in a batch, where each is the other's hardest negative; with eight pairs, looks are
        # learned as well.
        c.batch.identities, c.batch.tracklets, c.batch.group_size = 16, 2, 2
        # How much each codeword met tells twins apart (docs/ablations.md).
        c.model.vlad_norm = 'part'
    else:
        # Many steps on short clips, and parts that begin as bands from head to feet: see docs/ablations.md.
        c.clips.frames, c.clips.stride = 4, 2
        c.model.position_term, c.model.clusters = True, 4
        c.evaluation.flip = True
        # Enough for few, small pictures, and some seconds faster.
        c.vlad_init.max_descriptors, c.vlad_init.batches = 5_000, 4
    c = default.apply_arguments(c, ','.join(a for a in names if a != 'twins'))
    if c.model.backbone.name != 'r3d_tiny':
        c.clips.frames, c.clips.stride = 8, 1  # the stride in time of larger networks asks for as many frames
    elif not twins and c.model.backbone.temporal == '3d':
        c.model.backbone.time_padding = 'continued'  # of clips of four frames, zeros would be a third of what is seen
    return c
