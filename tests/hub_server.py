"""A stand-in for the Hugging Face hub on loopback: repositories of models with commits, read and written over HTTP.

It answers the requests that huggingface_hub sends to HF_ENDPOINT. Xet storage is not offered.
"""

import base64
import hashlib
import json
import os
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

OWNER, TOKEN, READER = "jane", "hf_writer", "hf_reader"
"""The owner of all repositories, and the tokens of the owner and of another user."""


class HubServer(ThreadingHTTPServer):
    """Repositories (``models``: name -> list of commits), uploaded large files and the requests.

    faults: statuses to answer the next requests with.
    private: names of the private repositories.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.models, self.private, self.large, self.requests, self.faults = {}, set(), {}, [], []

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, name, files):
        """Add a commit with exactly these files (path -> content), and return its hash."""
        commits = self.models.setdefault(name, [])
        digest = hashlib.sha1(json.dumps([name, len(commits)]).encode()).hexdigest()
        commits.append((digest, dict(files)))
        return digest

    def files(self, name):
        """Return the files of the newest commit."""
        return self.models[name][-1][1]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer("GET")

    def do_HEAD(self):
        self.answer("HEAD")

    def do_POST(self):
        self.answer("POST")

    def do_PUT(self):
        self.answer("PUT")

    def answer(self, method):
        path = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((method, path))
        self.user = {f"Bearer {TOKEN}": OWNER, f"Bearer {READER}": "john"}.get(self.headers.get("Authorization"))
        if self.server.faults and (status := self.server.faults.pop(0)):
            self.fail(status, "Internal error")
            return
        for pattern, handler in ROUTES:
            if match := re.fullmatch(pattern, f"{method.replace('HEAD', 'GET')} {path}"):
                handler(self, **match.groupdict())
                return
        self.fail(404, f"no route for {method} {path}")

    def fail(self, status, message, code=""):
        self.reply({"error": message}, status, {"X-Error-Code": code, "X-Error-Message": message})

    def reply(self, content, status=200, headers=()):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": len(content), **dict(headers)}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def find(self, name, revision="main"):
        """Return hash and files of a revision, or answer that it does not exist and return None."""
        commits = self.server.models.get(name)
        if commits is None or (name in self.server.private and self.user != OWNER):
            # The hub does not tell anonymous users whether a repository exists.
            self.fail(404 if self.user else 401, "Repository not found", "RepoNotFound")
            return None
        found = [commit for commit in commits if revision in (commit[0], "main")]
        if not found:
            self.fail(404, "Invalid rev id", "RevisionNotFound")
            return None
        return found[-1]

    def may_write(self, name):
        if name.partition("/")[0] != self.user:
            self.fail(403 if self.user else 401, "You don't have the rights to write here")
            return False
        return True

    def show_user(self):
        if self.user:
            self.reply({"type": "user", "name": self.user, "fullname": self.user, "orgs": [], "auth": {}})
        else:
            self.fail(401, "Invalid credentials")

    def show_model(self, name, revision="main"):
        if commit := self.find(name, revision or "main"):
            digest, files = commit
            siblings = [{"rfilename": path} for path in sorted(files)]
            private = name in self.server.private
            self.reply({"id": name, "_id": "1", "sha": digest, "private": private, "siblings": siblings, "tags": []})

    def list_tree(self, name, revision, folder=""):
        if commit := self.find(name, revision):
            entries, folder = {}, folder and f"{folder}/"
            for path, content in sorted(commit[1].items()):
                if path.startswith(folder):
                    entries[path] = file_entry(path, content)
                    for parent in list(PurePosixPath(path).parents)[:-1]:
                        entry = {"type": "directory", "path": str(parent), "oid": "0" * 40, "size": 0}
                        entries.setdefault(str(parent), entry)
            if "recursive=true" not in self.path.lower():
                entries = {path: entry for path, entry in entries.items() if "/" not in path[len(folder) :]}
            self.reply(list(entries.values()))

    def show_paths(self, name, revision):
        if commit := self.find(name, revision):
            paths = json.loads(self.body)["paths"]
            self.reply([file_entry(path, commit[1][path]) for path in paths if path in commit[1]])

    def send_file(self, name, revision, path):
        if commit := self.find(name, revision):
            if path not in commit[1]:
                self.fail(404, "Entry not found", "EntryNotFound")
                return
            content, digest = commit[1][path], hashlib.sha256(commit[1][path]).hexdigest()
            headers = {"X-Repo-Commit": commit[0], "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
            requested = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
            if requested:
                first, last = int(requested[1]), min(int(requested[2]), len(content) - 1)
                headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
                content = content[first : last + 1]
            self.reply(content, 206 if requested else 200, headers)

    def create(self):
        request = json.loads(self.body)
        name = f"{request.get('organization') or self.user}/{request['name']}"
        if self.may_write(name):
            if name in self.server.models:
                self.reply({"error": "You already created this repo", "url": f"{self.server.endpoint}/{name}"}, 409)
                return
            self.server.commit(name, {".gitattributes": b"*.bin filter=lfs"})
            if request.get("private") or request.get("visibility") == "private":
                self.server.private.add(name)
            self.reply({"url": f"{self.server.endpoint}/{name}", "name": name, "id": "1"})

    def validate_yaml(self):
        self.reply({"errors": [], "warnings": []})

    def preupload(self, name, revision):
        if self.find(name, revision) and self.may_write(name):
            files = json.loads(self.body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "regular" if file["path"].endswith((".json", ".md", ".txt")) else "lfs",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in files
            ]
            self.reply({"files": modes})

    def lfs_batch(self, name):
        if self.may_write(name):
            objects = [
                {
                    "oid": item["oid"],
                    "size": item["size"],
                    "actions": {"upload": {"href": f"{self.server.endpoint}/large/{item['oid']}", "header": {}}},
                }
                for item in json.loads(self.body)["objects"]
            ]
            self.reply({"transfer": "basic", "objects": objects}, 200, {"Content-Type": "application/json"})

    def upload_large(self, digest):
        assert hashlib.sha256(self.body).hexdigest() == digest
        self.server.large[digest] = self.body
        self.reply(b"")

    def make_commit(self, name, revision):
        if not (self.find(name, revision) and self.may_write(name)):
            return
        lines = [json.loads(line) for line in self.body.splitlines()]
        files = dict(self.server.files(name))
        for line in lines:
            value, newest = line["value"], self.server.models[name][-1][0]
            if line["key"] == "header" and value.get("parentCommit", newest) != newest:
                self.fail(412, "A commit has happened since")
                return
            if line["key"] == "deletedFile":
                del files[value["path"]]
            elif line["key"] == "deletedFolder":
                files = {path: content for path, content in files.items() if not path.startswith(value["path"])}
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        digest = self.server.commit(name, files)
        url = f"{self.server.endpoint}/{name}/commit/{digest}"
        self.reply({"success": True, "commitOid": digest, "commitUrl": url, "hookOutput": ""})

    def log_message(self, *_):
        pass


def file_entry(path, content):
    """Return the entry of a file in a listing. All files except small text are large files."""
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry = {"type": "file", "path": path, "size": len(content), "oid": oid}
    if not path.endswith((".json", ".md", ".txt", ".gitattributes")):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "sha256": digest, "size": len(content), "pointerSize": 130}
    return entry


NAME, REVISION = r"(?P<name>[\w.-]+/[\w.-]+)", r"(?P<revision>[^/]+)"
ROUTES = [
    ("GET /api/whoami-v2", Handler.show_user),
    ("POST /api/repos/create", Handler.create),
    ("POST /api/validate-yaml", Handler.validate_yaml),
    (f"GET /api/models/{NAME}", Handler.show_model),
    (f"GET /api/models/{NAME}/revision/{REVISION}", Handler.show_model),
    (f"GET /api/models/{NAME}/tree/{REVISION}", Handler.list_tree),
    (f"GET /api/models/{NAME}/tree/{REVISION}/(?P<folder>.+)", Handler.list_tree),
    (f"POST /api/models/{NAME}/paths-info/{REVISION}", Handler.show_paths),
    (f"POST /api/models/{NAME}/preupload/{REVISION}", Handler.preupload),
    (f"POST /api/models/{NAME}/commit/{REVISION}", Handler.make_commit),
    (f"POST /{NAME}.git/info/lfs/objects/batch", Handler.lfs_batch),
    ("PUT /large/(?P<digest>.+)", Handler.upload_large),
    (f"GET /{NAME}/resolve/{REVISION}/(?P<path>.+)", Handler.send_file),
]


@contextmanager
def hub_server():
    """Run a server until the block ends."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def hub_of_this_process(monkeypatch):
    """Run a server that huggingface_hub uses in this process, without a token."""
    import huggingface_hub.constants as constants
    from huggingface_hub import HfFileSystem

    with hub_server() as server:
        for name, value in {
            "ENDPOINT": server.endpoint,  # Read from HF_ENDPOINT when the library was imported.
            "HUGGINGFACE_CO_URL_TEMPLATE": server.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_TOKEN_PATH": os.devnull,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        HfFileSystem.clear_instance_cache()
        yield server
        HfFileSystem.clear_instance_cache()
