"""Fixtures that the whole suite shares. What they build is imported inside them, so that a small test starts fast."""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from moto.server import ThreadedMotoServer

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray's workers are niced: beside unit tests its proxy may need longer than the 5 s after which Serve gives up.
os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
os.environ.setdefault("REPORTER_UPDATE_INTERVAL_MS", "60000")  # nobody looks at the nodes' load: every minute, not 5 s
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # most would never get work, and each has Ray to import
os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")  # not 32 processes to look at small files
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # the suite's clusters are its own and short-lived
os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # ultralytics may not install packages in mid-test
os.environ.setdefault("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there: no test may need the public hub

ROOT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where two processes share the tests, a folder of tests with Ray is not split, nor is any other file."""
    from xdist.scheduler import LoadFileScheduling

    class OneRayEach(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder = "/".join(nodeid.split("/")[:2])
            return folder if folder in ("tests/e2e", "tests/ray") else super()._split_scope(nodeid)

    return OneRayEach(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the `gpu` tests where there is no CUDA device."""
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu:
        import torch

        if not torch.cuda.is_available():
            items[:] = [item for item in items if item not in gpu]
            config.hook.pytest_deselected(items=gpu)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Coverage is that of the tests without Ray: to trace Ray's drivers takes time, and the fast tests reach enough."""
    from coverage import Coverage

    tracing = Coverage.current() if item.get_closest_marker("ray") else None
    if tracing is None:
        return (yield)
    tracing.stop()
    try:
        return (yield)
    finally:
        tracing.start()


@pytest.fixture(scope="session", autouse=True)
def two_torch_threads() -> None:
    """Sums in parallel depend on the number of threads: hold it, so that every machine gets the same ones.

    One where the unit tests share the machine between two processes: threads that wait for each other's core are slow.
    """
    import torch

    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """Of a Ray with two CPUs for the whole suite, which may leave it and come back (`ray.init(address=...)`).

    Its agent leaves the usual port to the head that the README starts.
    """
    from ray.cluster_utils import Cluster

    settings = {"num_cpus": 2, "object_store_memory": 400_000_000, "dashboard_agent_listen_port": 0}
    unread = {"include_dashboard": False, "include_log_monitor": False}  # a minute of processor time in 20
    cluster = cast("Any", Cluster)(initialize_head=True, head_node_args=settings | unread)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="session")
def ray_session(ray_address: str) -> Iterator[None]:
    """The suite's Ray, joined."""
    import ray

    ray.init(address=ray_address, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server() -> Callable[[], AbstractContextManager["ThreadedMotoServer"]]:
    """An S3 server for the time of a `with`, found by this process's clients and by what it starts meanwhile.

    In one process all such servers have the same buckets: give each test one of its own.
    """
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    @contextmanager
    def started() -> Generator[ThreadedMotoServer]:
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        server.start()
        host, port = server.get_host_and_port()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            patch.setenv("AWS_ACCESS_KEY_ID", "test")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            S3FileSystem.clear_instance_cache()  # one of another server, perhaps
            yield server
        server.stop()
        S3FileSystem.clear_instance_cache()

    return started


@pytest.fixture(scope="session")
def shared_media() -> Path:
    """Real clips kept beside the checkout, never in it; see the folder's own README."""
    folder = ROOT.parent / "shared" / "media"
    if not folder.is_dir():
        pytest.skip("no ../shared/media beside this checkout")
    return folder


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """Files, tables and requests that went wrong once, kept beside the checkout; `expect.json` says what is right."""
    folder = ROOT.parent / "shared" / "cases"
    if not folder.is_dir():
        pytest.skip("no ../shared/cases beside this checkout")
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(pytestconfig: pytest.Config) -> str:
    """A bundle with every backbone at its smallest, made once for the code as it is; treat it as read-only."""
    from filelock import FileLock

    from twominds.artifacts import fingerprint, installed_versions
    from twominds.synthetic.weights import QUICK, make_debug_models

    sources = [
        *(ROOT / "platform/twominds/synthetic").rglob("*.py"),
        *(ROOT / "platform/twominds/features").glob("*.py"),
        *(ROOT / "platform/twominds/backbones").glob("*.py"),
    ]
    made_of = fingerprint([path.read_text() for path in sorted(sources)], installed_versions())
    # In pytest's cache, for `make test` runs pytest twice; from a folder that gets its name when it is whole.
    assert pytestconfig.cache is not None
    cache = pytestconfig.cache.mkdir("bundles")
    bundle = cache / made_of
    with FileLock(cache / "lock"):  # of the processes that share the unit tests
        if not bundle.exists():
            make_debug_models(str(cache / "unfinished"), size="tiny", training=QUICK)
            (cache / "unfinished").rename(bundle)
    return str(bundle)


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BAH tree of twelve drawn clips of two seconds, none of them broken, drawn once; treat it as read-only."""
    from twominds.synthetic.corpus.config import SyntheticCorpusConfig
    from twominds.synthetic.corpus.corpus import make_corpus

    root = tmp_path_factory.mktemp("corpus") / "bah"
    config = SyntheticCorpusConfig(clips=12, clip_s=2.0, width=160, height=120, fps=12.0, clean=True, seed=7)
    make_corpus(config, root, workers=1)
    return root


@pytest.fixture(scope="session")
def write_embeddings() -> Callable[..., None]:
    """What a search needs: embeddings in which every modality tells a little of the label, stand-ins for encoders."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch
    from upath import UPath

    from twominds import artifacts
    from twominds.artifacts import Card
    from twominds.records import PRESENT, Clip, Embedding, Modality, Split, clip_labels
    from twominds.results import tables
    from twominds.results.about import About, claim_folder
    from twominds.tasks import AH_VIDEO

    def write(root: str, *, train: int = 40, validation: int = 20, test: int = 0, dim: int = 8) -> None:
        rng, rows = np.random.default_rng(0), list[tables.Row]()
        splits = [*[Split.TRAIN] * train, *[Split.VALIDATION] * validation, *[Split.TEST] * test]
        for i, split in enumerate(splits):
            clip = Clip(clip_id=f"clip-{i:03}", video_uri="", split=split, labels=clip_labels(i % 2))
            row = {name: value for name, value in tables.clip_to_row(clip).items() if name in tables.WITHOUT_WORDS}
            for view in Modality:
                vector = (rng.standard_normal(dim) + i % 2).astype(np.float32)
                embedding = Embedding(clip_id=clip.clip_id, view=view, presence=PRESENT, vectors=np.atleast_2d(vector))
                row |= tables.embedding_to_row(embedding)
            rows.append(row)
        fields: list[pa.Field[Any]] = [tables.CLIP_SCHEMA.field(name) for name in tables.WITHOUT_WORDS]
        schema = pa.schema([*fields, *tables.embedding_fields(*Modality)])
        about = About(recipe="leya/demo", corpus="drawn", fingerprint="0" * 12, models="none")
        claim_folder(f"{root}/embeddings", about)
        with UPath(f"{root}/embeddings/all.parquet").open("wb") as file:
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)
        for view in Modality:
            card = Card(kind="encoder", task=AH_VIDEO, recipe="leya/demo", config={})
            artifacts.save(f"{root}/encoders/{view}", {"w": torch.zeros(1)}, card)

    return write
