# SPDX-License-Identifier: GPL-3.0-or-later
"""A hub on this machine: the two requests that a download makes, answered from a tiny repository in memory."""

import hashlib
import json
import math
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

BIDIRECTIONAL = "Efficient-Large-Model/SANA-WM_bidirectional"
STREAMING = "Efficient-Large-Model/SANA-WM_streaming"
CHUNK_CAUSAL = "Efficient-Large-Model/SANA-WM_chunk_causal"
NEWEST = "c0ffee" + "0" * 34
_LARGE = (".safetensors", ".pt", "tokenizer.json")


def safetensors(shapes, seed=0, filler_bytes=0):
    """A file with byte tensors of these shapes, all of the value `seed`, and one of `filler_bytes` bytes."""
    header, offset = {}, 0
    for name, shape in {**shapes, "filler": [filler_bytes]}.items():
        size = math.prod(shape)
        header[name] = {"dtype": "U8", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes([seed]) * offset


def refiner_files(folder, seed=0, filler_bytes=0, rows=6, **config):
    """A refiner's two files by path."""
    config = {"_class_name": "LTX2VideoTransformer3DModel", **config}
    shapes = {"transformer_blocks.0.scale_shift_table": [rows, 8]}
    return {
        f"{folder}/config.json": json.dumps(config).encode(),
        f"{folder}/diffusion_pytorch_model.safetensors": safetensors(shapes, seed, filler_bytes),
    }


def vae_files(folder, causal):
    """A VAE's two files by path."""
    config = {"_class_name": "AutoencoderKLLTX2Video", "decoder_causal": causal}
    return {
        f"{folder}/config.json": json.dumps(config).encode(),
        f"{folder}/diffusion_pytorch_model.safetensors": safetensors(
            {"decoder.conv_in.conv.weight": [4]}, causal
        ),
    }


class Hub:
    """Serves `repositories`: name -> path -> bytes. A path in `holds` is sent up to that byte, then held back.

    Attributes:
        sent: (path, first byte, whether a token came along) of every file request, in order.
        lies: path -> what is sent instead of the content.
        claims: path -> the size that is told instead of the content's.
        ignores_ranges: whether files are always sent from their beginning.
    """

    def __init__(self, repositories):
        self.repositories = repositories
        self.sent, self.agents = [], []
        self.lies, self.claims, self.holds = {}, {}, {}
        self.ignores_ranges = False
        self.released = threading.Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_args):
                pass

            def do_GET(self):
                hub.agents.append(self.headers.get("User-Agent", ""))
                path = unquote(urlsplit(self.path).path).lstrip("/")
                if path.startswith("api/models/"):
                    hub._describe(self, path.removeprefix("api/models/"))
                else:
                    repository, _, rest = path.partition("/resolve/")
                    commit, _, name = rest.partition("/")
                    hub._send(self, repository, name)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def _describe(self, request, path):
        repository, _, revision = path.partition("/revision/")
        files = self.repositories.get(repository)
        if files is None:
            request.send_response(404)
            request.send_header("X-Error-Code", "RepoNotFound")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        siblings = []
        for name, content in files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry = {"rfilename": name, "size": self.claims.get(name, len(content)), "blobId": blob}
            if name.endswith(_LARGE):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": entry["size"], "pointerSize": 134}
            siblings.append(entry)
        answer = {"id": repository, "sha": revision or NEWEST, "siblings": siblings}
        body = json.dumps(answer).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _send(self, request, repository, name):
        content = self.lies.get(name, self.repositories[repository][name])
        wanted = None if self.ignores_ranges else request.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.sent.append((name, start, "Authorization" in request.headers))
        request.send_response(206 if wanted else 200)
        request.send_header("Content-Length", str(len(content) - start))
        if wanted:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        stop = self.holds.get(name, len(content))
        try:
            request.wfile.write(content[start:stop])
            if stop < len(content):
                self.released.wait(120)
                request.wfile.write(content[stop:])
        except OSError:  # the other side was killed
            pass
