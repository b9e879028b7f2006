"""Where everything is kept unless the user says otherwise: one folder (or object store prefix) per result.

The root is the environment variable `TWOMINDS_HOME` (a local path or `s3://bucket/prefix`); without it, `runs/` in
the checkout that the package was installed from, so that a job finds what `make demo` made whichever folder it is
started in; for a package installed from a wheel, `runs/` in the current folder.
"""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from upath import UPath

from twominds.errors import ConfigError, MissingInputError


def default_root() -> str:
    """Root of the workspace: an absolute local path or a URI."""
    return fixed_root() or str(Path.cwd() / "runs")


def fixed_root() -> str:
    """The root unless it is the current folder that decides, which differs from process to process; empty then."""
    configured = os.environ.get("TWOMINDS_HOME", "")
    if configured:
        return configured if "://" in configured else str(Path(configured).expanduser().resolve())
    checkout = Path(__file__).resolve().parents[2]
    return str(checkout / "runs") if (checkout / "pyproject.toml").is_file() else ""


def described_root() -> str:
    """The root and who chose it, for a person to read."""
    return f"{default_root()} ({'TWOMINDS_HOME' if os.environ.get('TWOMINDS_HOME') else 'TWOMINDS_HOME is not set'})"


def check_same_root(workers: str) -> None:
    """Refuses a cluster whose processes have another root: results would be read and written in place of others.

    Args:
        workers: `fixed_root()` there.

    Raises:
        ConfigError: it is not that of this process.
    """
    if workers != fixed_root():
        raise ConfigError(
            f"Results are kept in {described_root()} here, and in {workers or 'another folder'} on the cluster, which "
            "has the TWOMINDS_HOME that was set when it was started. Set the same here, as an absolute path or a URI, "
            "or start the cluster anew: `ray stop`, `export TWOMINDS_HOME=...`, `ray start ...`."
        )


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """The default place of each job's result, below `root`."""

    root: str

    @classmethod
    def default(cls) -> "Workspace":
        """The workspace below `default_root()`."""
        return cls(root=default_root())

    def _at(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    @property
    def corpus(self) -> str:
        """A BAH tree; `jobs/make_corpus.py` draws one."""
        return self._at("corpus")

    @property
    def models(self) -> str:
        """The bundle of pre-trained weights; from `jobs/fetch_models.py` or `jobs/make_debug_models.py`."""
        return self._at("models")

    @property
    def features(self) -> str:
        """Parquet of `jobs/preprocess.py`."""
        return self._at("features")

    @property
    def encoders(self) -> str:
        """One artifact per modality, from `jobs/train_encoders.py`."""
        return self._at("encoders")

    @property
    def embeddings(self) -> str:
        """Parquet of `jobs/embed.py`."""
        return self._at("embeddings")

    @property
    def search(self) -> str:
        """State and trials of `jobs/tune_fusion.py`."""
        return self._at("search")

    @property
    def ensemble(self) -> str:
        """The self-contained artifact that is served, from `jobs/tune_fusion.py`."""
        return self._at("ensemble")

    @property
    def study(self) -> str:
        """What the rows of a results table share, from `jobs/evaluate.py --recipe`: one folder per part and hash."""
        return self._at("study")

    @property
    def report(self) -> str:
        """Tables of `jobs/evaluate.py`."""
        return self._at("report")


def job_command(job: str, **places: str) -> str:
    """The command that runs a job on `places` (its flags), of which those that are the default are left out."""
    default = Workspace.default()
    flags = [f"--{name} {shlex.quote(uri)}" for name, uri in places.items() if uri != getattr(default, name)]
    return " ".join([f"python jobs/{job}.py", *flags])


def require(uri: str, *, what: str, made_by: str = "") -> UPath:
    """The path at `uri`, or a sentence saying what is missing and which job makes it, if one does.

    Raises:
        MissingInputError: nothing is at `uri`.
    """
    path = UPath(uri)
    if not path.exists():
        makes = f"Make it with `{made_by}`, or give" if made_by else "Give"
        raise MissingInputError(f"No {what} at {uri}. {makes} its place.")
    return path
