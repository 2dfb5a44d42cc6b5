"""Names of files and folders that operating systems and programs leave behind, not their user."""

# In lower case: Windows, macOS, Synology, QNAP, Linux.
_NAMES = frozenset([
    'thumbs.db', 'ehthumbs.db', 'ehthumbs_vista.db', 'desktop.ini', '$recycle.bin', 'system volume information',
    '__macosx', 'icon\r', '@eadir', '#recycle', '#snapshot', '@tmp', '@recycle', '@__thumb', 'lost+found',
])  # fmt: skip


def is_system_name(name: str) -> bool:
    """Whether a name, without its folders, is hidden, a backup, or of an operating system."""
    return (
        name.lower() in _NAMES
        or name.endswith('~')
        or name.startswith('~$')
        or (name.startswith('.') and name not in ('.', '..'))
    )
