"""What is deleted or replaced is gone from the disk, with its pictures."""

import errno
import shutil
import types

import pytest

pytest.importorskip('pyarrow')
from pvlad_jax.commands.dispatcher import main
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.file_names import file_name
from pvlad_jax.gallery import crops, result_sheet, segments
from pvlad_jax.gallery.change import change as changing
from pvlad_jax.gallery.crops import crops_of, stored_crops
from pvlad_jax.gallery.embedding_table import EmbeddingTable
from pvlad_jax.gallery.table_file import write_table
from tests.helpers.small_galleries import found, holds, make, rows, write_rows


@pytest.fixture
def table(tmp_path):
    return lambda *args, **options: write_rows(tmp_path, *args, **options)


def test_replacing_takes_the_old_vector_from_the_disk(tmp_path, table):
    gallery = make(tmp_path / 'g')
    (tmp_path / 'crops/t3').mkdir(parents=True)
    (tmp_path / 'crops/t3/1.jpg').write_bytes(b'old')
    gallery.add(table(0, 10), tmp_path / 'crops')
    write_table(tmp_path / 'changed.parquet', rows(3, 5, seed=1))
    replaced = gallery.add(tmp_path / 'changed.parquet', replace=True)
    assert (replaced.added, replaced.replaced, gallery.info()['tracklets']) == (0, 2, 10)
    assert gallery.state.next_id == 12  # the number of a row is never given twice
    assert not holds(tmp_path / 'g', segments.unit(rows(3, 4).embedding).tobytes())
    assert not holds(tmp_path / 'g', b'old')
    query = EmbeddingTable.from_columns({'tracklet': ['q']}, rows(3, 4, seed=1).embedding, 'm1')
    assert found(gallery, query, 1) == [['t3']]


def test_pictures_of_a_replaced_tracklet_are_the_new_ones(tmp_path, table):
    for folder, number in (('old', 3), ('new', 2)):
        (tmp_path / folder / 't0').mkdir(parents=True)
        for i in range(number):
            (tmp_path / folder / 't0' / f'{i}.jpg').write_text(folder)
    gallery = make(tmp_path / 'g')
    gallery.add(table(0, 1), tmp_path / 'old')
    gallery.add(table(0, 1, seed=1), tmp_path / 'new', replace=True)
    assert [path.read_text() for path in stored_crops(gallery.folder, 't0')] == ['new', 'new']


@pytest.fixture
def pictured(tmp_path, table):
    """A gallery of t0 and t1 with old pictures, and a folder of new ones."""
    for folder in ('old', 'new'):
        for name in ('t0', 't1'):
            (tmp_path / folder / name).mkdir(parents=True)
            (tmp_path / folder / name / '1.jpg').write_text(folder)
    gallery = make(tmp_path / 'g')
    gallery.add(table(0, 2), tmp_path / 'old')
    return gallery


def pictures(gallery):
    return {name: [path.read_text() for path in stored_crops(gallery.folder, name)] for name in ('t0', 't1')}


def test_the_gallerys_own_pictures_may_be_given_again(pictured, table):
    pictured.add(table(0, 2, seed=1), pictured.folder / 'crops', replace=True)
    assert pictures(pictured) == {'t0': ['old'], 't1': ['old']}


def test_a_full_disk_leaves_every_picture_as_it_was(pictured, table, tmp_path, monkeypatch):
    copy = shutil.copyfile

    def copyfile(source, target):
        if 't1' in str(source):
            raise OSError(errno.ENOSPC, 'No space left on device')
        return copy(source, target)

    monkeypatch.setattr(shutil, 'copyfile', copyfile)
    with pytest.raises(UserError, match='as it was'):
        pictured.add(table(0, 2, seed=1), tmp_path / 'new', replace=True)
    assert pictures(pictured) == {'t0': ['old'], 't1': ['old']}
    assert not holds(pictured.folder, b'new') and not pictured.info()['unfinished_change']


def test_a_full_disk_after_the_change_says_that_it_was_made(pictured, table, monkeypatch):
    def finish(self, old, new):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(type(pictured.store), 'finish', finish)
    with pytest.raises(UserError, match='as the command asked for'):
        pictured.add(table(2, 3))
    assert len(pictured) == 3


class Killed(BaseException):
    pass


def killed_while_settling(patched, moved):
    """The next change is killed after it was committed, when the pictures of so many tracklets are in their places."""

    def settle(gallery, tracklets, staged):
        crops.settle_crops(gallery, tracklets[:moved], staged[:moved])
        raise Killed

    patched.setattr(crops, 'clear_staged', lambda gallery: None)
    patched.setattr(
        'pvlad_jax.gallery.gallery.pictures', types.SimpleNamespace(**{**vars(crops), 'settle_crops': settle})
    )


@pytest.mark.parametrize('moved', [0, 1])
def test_a_change_killed_after_it_was_committed_gets_its_pictures(pictured, table, tmp_path, monkeypatch, moved):
    shutil.rmtree(tmp_path / 'new/t1')  # it has no new pictures
    with monkeypatch.context() as patched:
        killed_while_settling(patched, moved)
        with pytest.raises(Killed):
            pictured.add(table(0, 2, seed=1), tmp_path / 'new', replace=True)
    # Its vectors are found, and so are its pictures, wherever they are.
    assert pictures(pictured) == {'t0': ['new'], 't1': []} and pictured.info()['unfinished_change']
    with changing(pictured.folder, pictured.store):  # whatever change comes next
        pass
    assert pictures(pictured) == {'t0': ['new'], 't1': []} and not holds(pictured.folder, b'old')


@pytest.mark.parametrize('moved', [0, 1, 2])
@pytest.mark.parametrize('there', [True, False], ids=['pictures alone', 'new tracklets'])
def test_an_addition_killed_after_it_was_committed_has_all_its_pictures(
    tmp_path, pictured, table, monkeypatch, there, moved
):
    gallery = make(tmp_path / 'other')
    if there:
        gallery.add(table(0, 2))
    with monkeypatch.context() as patched:
        killed_while_settling(patched, moved)
        with pytest.raises(Killed):
            gallery.add(table(0, 2), tmp_path / 'new')
    assert pictures(gallery) == {'t0': ['new'], 't1': ['new']} and gallery.unfinished
    added = gallery.add(table(0, 2), tmp_path / 'new')  # the same command again
    assert (added.added, added.already_there) == (0, 2) and not gallery.unfinished
    assert pictures(gallery) == {'t0': ['new'], 't1': ['new']} and len(gallery) == 2


def test_an_addition_killed_before_it_was_committed_has_no_pictures(pictured, table, tmp_path, monkeypatch):
    def commit(folder, state):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr('pvlad_jax.gallery.gallery.manifest.commit', commit)
        patched.setattr('pvlad_jax.gallery.change._recover', lambda *arguments: None)
        with pytest.raises(Killed):
            pictured.add(table(0, 2, seed=1), tmp_path / 'new', replace=True)
    assert pictures(pictured) == {'t0': ['old'], 't1': ['old']} and pictured.unfinished


@pytest.fixture
def killed_deletion(pictured, monkeypatch):
    """t0 and t1 are deleted, killed before their pictures are removed."""

    def remove(*arguments):
        raise Killed

    def start(**asked):
        with monkeypatch.context() as patched:
            patched.setattr(
                'pvlad_jax.gallery.gallery.pictures', types.SimpleNamespace(**{**vars(crops), 'remove_crops': remove})
            )
            with pytest.raises(Killed):
                pictured.delete(**asked)

    return start


@pytest.mark.parametrize('asked', ['--tracklet=t0 --tracklet=t1', '--source=video0', '--source=video0 --tracklet=t1'])
def test_a_killed_deletion_given_again_says_that_it_is_done(
    pictured, table, tmp_path, monkeypatch, capsys, killed_deletion, asked
):
    monkeypatch.chdir(tmp_path)
    pictured.add(table(10, 12))  # of another source
    pairs = [word[2:].split('=') for word in asked.split()]
    killed_deletion(**{f'{kind}s': [name for k, name in pairs if k == kind] for kind in ('tracklet', 'source')})
    assert holds(pictured.folder, b'old') and pictures(pictured) == {'t0': [], 't1': []}
    assert main(['gallery', 'verify', '--gallery=g']) == 0 and 'is not finished' in capsys.readouterr().err
    again = ['gallery', 'delete', '--gallery=g', *asked.split()]
    assert main(again) == 0 and capsys.readouterr().out.startswith('2 tracklets deleted')
    assert not holds(pictured.folder, b'old') and not pictured.unfinished and len(pictured) == 2
    assert main(['gallery', 'verify', '--gallery=g']) == 0 and not capsys.readouterr().err
    assert main(again) == 2 and 'Nothing was deleted' in capsys.readouterr().err


def test_another_deletion_after_a_killed_one_finishes_it_and_says_so(pictured, table, killed_deletion):
    pictured.add(table(10, 12))
    killed_deletion(tracklets=['t0', 't1'])
    with pytest.raises(UserError, match=r"no tracklet 'x'\. Nothing more was deleted"):
        pictured.delete(['x'])
    assert not holds(pictured.folder, b'old')
    pictured.add(table(0, 2))
    killed_deletion(sources=['video0'])
    assert pictured.delete(['t10']) == 1 and len(pictured) == 1


def test_a_killed_addition_is_no_deletion(pictured, table, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        killed_while_settling(patched, 0)
        with pytest.raises(Killed):
            pictured.add(table(0, 2, seed=1), tmp_path / 'new', replace=True)
    assert pictured.delete(['t0']) == 1 and len(pictured) == 1
    with pytest.raises(UserError, match='Nothing was deleted'):
        pictured.delete(['t0'])


@pytest.mark.parametrize('command', ['info', 'verify', 'search --input=q.parquet'])
def test_commands_say_that_a_change_was_killed(pictured, table, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    table(5, 6).rename('q.parquet')
    arguments = ['gallery', *command.split(), '--gallery=g']
    assert main(arguments) == 0 and 'not finished' not in capsys.readouterr().err
    with monkeypatch.context() as patched:
        killed_while_settling(patched, 0)
        with pytest.raises(Killed):
            pictured.add(table(0, 2, seed=1), tmp_path / 'new', replace=True)
    assert main(arguments) == 0 and 'is not finished' in capsys.readouterr().err


def test_a_sheet_shows_the_pictures_of_a_killed_change(pictured, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(5, 6).rename('q.parquet')
    with monkeypatch.context() as patched:
        killed_while_settling(patched, 0)
        with pytest.raises(Killed):
            pictured.add(table(0, 2, seed=1), tmp_path / 'new', replace=True)
    shown, strip = [], result_sheet._strip
    monkeypatch.setattr(
        result_sheet, '_strip', lambda paths: (shown.extend(path.read_text() for path in paths), strip(paths))[1]
    )
    assert main('gallery search --gallery=g --input=q.parquet --output=r.png'.split()) == 0
    assert shown == ['new', 'new']


def test_tracklets_without_pictures_get_them_later(tmp_path, table):
    gallery = make(tmp_path / 'g')
    for name, text in (('t0', 'first'), ('t1', 'second')):
        (tmp_path / text / name).mkdir(parents=True)
        (tmp_path / text / name / '1.jpg').write_text(text)
    (tmp_path / 'second/t0').mkdir()
    (tmp_path / 'second/t0/1.jpg').write_text('second')
    assert gallery.add(table(0, 2)).pictures == 0
    assert gallery.add(table(0, 2), tmp_path / 'first').pictures == 1
    assert gallery.add(table(0, 2), tmp_path / 'second').pictures == 1
    assert pictures(gallery) == {'t0': ['first'], 't1': ['second']}  # those that are there stay
    with pytest.raises(UserError, match='no folder'):
        gallery.add(table(0, 2), table(0, 2))


def test_crops_are_spread_over_the_frames_in_natural_order(tmp_path, table):
    (tmp_path / 'crops/t0').mkdir(parents=True)
    for number in range(8, 16):  # 9 comes before 10
        (tmp_path / f'crops/t0/f{number}.jpg').write_text(str(number))
    gallery = make(tmp_path / 'g')
    gallery.add(table(0, 1), tmp_path / 'crops')
    assert [path.read_text() for path in stored_crops(gallery.folder, 't0')] == [str(n) for n in range(8, 16)]


def test_crops_have_any_format_that_embed_reads(tmp_path, table):
    (tmp_path / 'crops/t0').mkdir(parents=True)
    names = ['0.jpeg', '1.webp', '2.BMP', '3.tiff', '4.png', '5.txt']
    for name in names:
        (tmp_path / 'crops/t0' / name).write_text(name)
    gallery = make(tmp_path / 'g')
    assert gallery.add(table(0, 1), tmp_path / 'crops').pictures == 1
    assert [path.read_text() for path in stored_crops(gallery.folder, 't0')] == names[:-1]


def test_crops_come_and_go_with_their_tracklets(tmp_path, table):
    names = ['t0', '../../escape', 'a/b']
    given = tmp_path / 'crops'
    for folder in (given / 't0', given / file_name('../../escape'), given / 'a/b', tmp_path / 'secret'):
        folder.mkdir(parents=True)
        for i in range(20):
            (folder / f'{i:03}.jpg').write_bytes(b'JPEG of ' + folder.name.encode())
    vectors = rows(0, 3).embedding
    write_table(tmp_path / 'n.parquet', EmbeddingTable.from_columns({'tracklet': names}, vectors, 'm1'))
    gallery = make(tmp_path / 'g')
    gallery.add(tmp_path / 'n.parquet', given)
    assert [len(stored_crops(gallery.folder, name)) for name in names] == [8, 8, 8]
    folders = {p.parent for p in (tmp_path / 'g/crops').rglob('*.jpg')}
    assert folders == {tmp_path / 'g/crops' / file_name(name) for name in names}
    assert gallery.delete(names[:2]) == 2
    assert not holds(tmp_path / 'g', b'escape') and not holds(tmp_path / 'g', b'JPEG of t0')
    assert len(stored_crops(gallery.folder, 'a/b')) == 8 and stored_crops(given, '../secret') == []
    assert stored_crops(gallery.folder, 'a%2Fb') == []  # another tracklet, which has none
    (given / 'link').symlink_to(tmp_path / 'secret')
    assert crops_of(given, 'link') == crops_of(given, '../secret') == []
    assert len(crops_of(tmp_path, 'secret')) == 20
    with pytest.raises(UserError, match='no folder'):
        gallery.add(table(0, 3), tmp_path / 'nowhere')
    assert gallery.info()['tracklets'] == gallery.delete(['a/b']) == 1
    assert len(gallery) == 0 and not list((tmp_path / 'g/crops').iterdir())
