"""The advice to use huge pages is given where it helps, and nowhere else."""

import pytest

from pvlad_jax.launch import huge_pages


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    monkeypatch.setattr(huge_pages, '_glibc', lambda: (2, 36))

    def says(text):
        (tmp_path / 'enabled').write_text(text)
        return tmp_path / 'enabled'

    return says


def test_advice_where_the_kernel_gives_huge_pages_on_request(kernel):
    assert huge_pages.SETTING in huge_pages.advice({}, kernel('always [madvise] never\n'))
    other = {'GLIBC_TUNABLES': 'glibc.malloc.arena_max=1'}
    assert huge_pages.SETTING in huge_pages.advice(other, kernel('always [madvise] never\n'))


@pytest.mark.parametrize('setting', ['glibc.malloc.hugetlb=1', 'glibc.malloc.arena_max=1:glibc.malloc.hugetlb=0'])
def test_no_advice_where_it_was_chosen(kernel, setting):
    assert huge_pages.advice({'GLIBC_TUNABLES': setting}, kernel('always [madvise] never\n')) is None


@pytest.mark.parametrize('enabled', ['[always] madvise never\n', 'always madvise [never]\n'])
def test_no_advice_where_the_kernel_decides_alone(kernel, enabled):
    assert huge_pages.advice({}, kernel(enabled)) is None


def test_no_advice_on_other_systems(kernel, tmp_path, monkeypatch):
    assert huge_pages.advice({}, tmp_path / 'missing') is None
    monkeypatch.setattr(huge_pages, '_glibc', lambda: (2, 31))
    assert huge_pages.advice({}, kernel('always [madvise] never\n')) is None
