"""A bucket on this machine: the parts of Google Cloud Storage's JSON API that TensorStore and gcsfs use, over HTTP,
objects in memory.

    with bucket_server() as (bucket, environment): ...     # a process with these variables finds any gs:// bucket here

What programs lean on is kept: writes are atomic, a write or delete with `ifGenerationMatch` fails (412) where somebody
else was faster, listings are in order and at once up to date. https://cloud.google.com/storage/docs/json_api
"""

import base64
import contextlib
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

STAMP = '2026-01-01T00:00:00.000Z'
PAGE = 1000


class Stored(NamedTuple):
    content: bytes
    generation: int


class Bucket:
    """Objects by name; every bucket that is asked for is this one."""

    def __init__(self):
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, tuple[str, bytearray]] = {}  # begun: name, what has come
        self.before_put: Callable[[str], None] = lambda name: None  # hears of every object before it is there
        self._lock, self._numbers = threading.Lock(), itertools.count(1)

    def put(self, name: str, content: bytes, expected: str | None = None) -> Stored | None:
        """None where the generation is not the one expected (0 = not there)."""
        self.before_put(name)
        with self._lock:
            if not self._is(name, expected):
                return None
            self.objects[name] = Stored(content, next(self._numbers))
            return self.objects[name]

    def delete(self, name: str, expected: str | None = None) -> int:
        """The HTTP status."""
        with self._lock:
            if not self._is(name, expected):
                return 412
            return 404 if self.objects.pop(name, None) is None else 204

    def begin(self, name: str) -> str:
        with self._lock:
            number = str(next(self._numbers))
            self.uploads[number] = (name, bytearray())
            return number

    def _is(self, name: str, expected: str | None) -> bool:
        return expected is None or int(expected) == (self.objects[name].generation if name in self.objects else 0)

    def names(self, prefix: str, start: str, end: str) -> list[str]:
        with self._lock:
            return sorted(n for n in self.objects if n.startswith(prefix) and n >= start and (not end or n < end))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'  # connections are kept
    bucket: Bucket

    def do_GET(self):
        path, query = self._asked()
        where = re.fullmatch(r'(?:/download)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?', path)
        if not where:
            return self._answer(404)
        if where[2] is None:
            return (
                self._list(query)
                if path.endswith('/o')
                else self._answer(200, {'name': where[1], 'kind': 'storage#bucket'})
            )
        name = unquote(where[2])
        found = self.bucket.objects.get(name)
        if found is None:
            return self._answer(404)
        if query.get('ifGenerationMatch') not in (None, str(found.generation)):
            return self._answer(412)
        if query.get('ifGenerationNotMatch') == str(found.generation):
            return self._answer(304)
        if query.get('alt') != 'media':
            return self._answer(200, _about(name, found))
        content, headers = found.content, {'x-goog-generation': str(found.generation)}
        wanted = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range', ''))
        if not wanted:
            return self._answer(200, content, headers)
        first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
        if first >= len(content):
            return self._answer(416)
        return self._answer(
            206, content[first : last + 1], headers | {'Content-Range': f'bytes {first}-{last}/{len(content)}'}
        )

    def do_POST(self):
        path, query = self._asked()
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        if copied := re.fullmatch(r'/storage/v1/b/[^/]+/o/([^/]+)/(?:rewriteTo/b/[^/]+|moveTo)/o/([^/]+)', path):
            return self._copy(unquote(copied[1]), unquote(copied[2]), moved='/moveTo/' in path)
        if not re.fullmatch(r'/upload/storage/v1/b/[^/]+/o', path):
            return self._answer(404)
        if 'upload_id' in query:
            return self._more(query['upload_id'], body)
        kind, expected = query.get('uploadType'), query.get('ifGenerationMatch')
        if kind == 'resumable':
            number = self.bucket.begin(query.get('name') or json.loads(body)['name'])
            return self._answer(
                200, b'', {'Location': f'http://{self.headers["Host"]}{path}?uploadType=resumable&upload_id={number}'}
            )
        if kind == 'multipart':
            mark = re.search(r'boundary="?([^";]+)', self.headers['Content-Type'])[1].encode()
            about, body = (
                part.split(b'\r\n\r\n' if b'\r\n\r\n' in part else b'\n\n', 1)[1]
                for part in body.split(b'--' + mark)[1:3]
            )
            body = body.removesuffix(b'\n').removesuffix(b'\r')
            query['name'] = json.loads(about)['name']
        stored = self.bucket.put(query['name'], body, expected)
        return self._answer(200, _about(query['name'], stored)) if stored else self._answer(412)

    do_PUT = do_POST

    def do_DELETE(self):
        path, query = self._asked()
        name = re.fullmatch(r'/storage/v1/b/[^/]+/o/(.+)', path)
        self._answer(self.bucket.delete(unquote(name[1]), query.get('ifGenerationMatch')) if name else 404)

    def _more(self, number: str, body: bytes) -> None:
        """A piece of a resumable upload; the object appears with the last one."""
        name, come = self.bucket.uploads[number]
        come += body
        whole = self.headers.get('Content-Range', '/').rsplit('/', 1)[1]
        if whole == '*' or (whole and len(come) < int(whole)):
            return self._answer(308, b'', {'Range': f'bytes=0-{len(come) - 1}'} if come else {})
        return self._answer(200, _about(name, self.bucket.put(name, bytes(come))))

    def _copy(self, source: str, target: str, moved: bool) -> None:
        found = self.bucket.objects.get(source)
        if found is None:
            return self._answer(404)
        stored = self.bucket.put(target, found.content)
        if moved:
            self.bucket.delete(source)
        about = _about(target, stored)
        return self._answer(200, about if moved else {'done': True, 'resource': about})

    def _list(self, query: dict[str, str]) -> None:
        prefix, mark = query.get('prefix', ''), query.get('delimiter')
        names = self.bucket.names(prefix, query.get('startOffset', ''), query.get('endOffset', ''))
        folders = {n: n[: n.index(mark, len(prefix)) + 1] for n in names if mark and mark in n[len(prefix) :]}
        shown = [n for n in dict.fromkeys(folders.get(n, n) for n in names) if n > query.get('pageToken', '')]
        page = shown[: min(int(query.get('maxResults', PAGE)), PAGE)]
        answer = {
            'kind': 'storage#objects',
            'prefixes': [n for n in page if n in set(folders.values())],
            'items': [_about(n, found) for n in page if (found := self.bucket.objects.get(n)) and n not in folders],
        }
        self._answer(200, answer | ({'nextPageToken': page[-1]} if len(page) < len(shown) else {}))

    def _asked(self) -> tuple[str, dict[str, str]]:
        url = urlsplit(self.path)
        return url.path, {key: values[-1] for key, values in parse_qs(url.query, keep_blank_values=True).items()}

    def _answer(self, status: int, content: dict | bytes = b'', headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header(
            'Content-Type', 'application/octet-stream' if isinstance(content, bytes) else 'application/json'
        )
        if status not in (204, 304):
            self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):  # whoever asked was killed
            self.wfile.write(body)

    def log_message(self, format, *args):
        pass


def _about(name: str, stored: Stored) -> dict:
    return {
        'kind': 'storage#object',
        'name': name,
        'bucket': 'bucket',
        'size': str(len(stored.content)),
        'generation': str(stored.generation),
        'metageneration': '1',
        'timeCreated': STAMP,
        'updated': STAMP,
        'md5Hash': base64.b64encode(hashlib.md5(stored.content).digest()).decode(),
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass  # whoever asked was killed


@contextlib.contextmanager
def bucket_server() -> Iterator[tuple[Bucket, dict[str, str]]]:
    """(the bucket, environment variables that make gs:// of a process mean it)."""
    bucket = Bucket()
    server = _Server(('127.0.0.1', 0), type('Handler', (_Handler,), {'bucket': bucket}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    where = f'http://127.0.0.1:{server.server_address[1]}'
    try:
        yield (
            bucket,
            {
                'STORAGE_EMULATOR_HOST': where,
                'TENSORSTORE_GCS_HTTP_URL': where,
                'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',  # it would ask over gRPC what kind of bucket it is
                'FSSPEC_GCS_TOKEN': 'anon',  # ask nobody for credentials
                'NO_GCE_CHECK': 'true',
                'GCE_METADATA_ROOT': '127.0.0.1:1',
            },
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
