"""The checks of this project: ``nox -l`` lists them, ``nox`` runs the quick ones."""

import shutil
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
PYPROJECT = nox.project.load_toml("pyproject.toml")

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "docs", "tests"]

# The tests use the installed wheel: PYTHONSAFEPATH hides the checkout.
INSTALLED_ALONE = {"PYTHONSAFEPATH": "1"}


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


@nox.session(python=PYTHONS, download_python="never")
def tests(session: nox.Session) -> None:
    """Test the built wheel, with coverage."""
    session.install(".[test]")
    # In a file of its own: sessions run at the same time.
    own_data = {"COVERAGE_FILE": str(Path(session.virtualenv.location, "coverage").resolve())}
    session.run("pytest", *session.posargs, env=INSTALLED_ALONE | own_data)


@nox.session(python=["3.11", "3.13"], download_python="never", venv_backend="uv")
def lowest(session: nox.Session) -> None:
    """Test with the lowest versions of the dependencies that are declared."""
    session.install("--resolution", "lowest-direct", ".[test]")
    session.run("uv", "pip", "list", external=True)
    session.run("pytest", "--no-cov", *session.posargs, env=INSTALLED_ALONE)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and the direction of imports."""
    session.install("-e", ".[test]", *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-logo")


@nox.session
def types(session: nox.Session) -> None:
    """Check types twice, and that the public ones are complete."""
    session.install(".[test]", *group("types"))
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "marketplace_async", "--ignoreexternal")


@nox.session(python="3.13", download_python="never")
def docs(session: nox.Session) -> None:
    """Build the documentation without warnings and check its internal links."""
    session.install(".[test]", *group("docs"))
    shutil.rmtree("docs/_build", ignore_errors=True)
    session.run("sphinx-build", "-W", "-n", "--keep-going", "-q", "docs", "docs/_build/html")
    session.run("python", "docs/links.py", "docs/_build/html")


@nox.session(venv_backend="uv")
def security(session: nox.Session) -> None:
    """Look for insecure code, and for known vulnerabilities of the dependencies."""
    session.install(*group("security"))
    session.run("bandit", "-q", "-r", "-c", "pyproject.toml", "marketplace_async")
    audit = ("pip-audit", "--progress-spinner=off", "--disable-pip", "--no-deps", "-r")
    canary, ours = (Path(session.create_tmp(), name) for name in ("canary.txt", "ours.txt"))
    canary.write_text("urllib3==1.24.1\n")
    answer = session.run(*audit, str(canary), silent=True, success_codes=[0, 1])
    if "No known vulnerabilities found" in str(answer):
        session.warn("The dependencies are NOT audited: no vulnerability service answers here.")
        return
    compile_ = ("uv", "pip", "compile", "-q", "--extra=cli", "pyproject.toml", "-o", str(ours))
    session.run(*compile_, external=True)
    session.run(*audit, str(ours))


@nox.session
def conformance(session: nox.Session) -> None:
    """Check the sandbox and the client with Twilio's own client, schemathesis and Prism."""
    session.install(".[test]", *group("conformance"))
    session.run("pytest", "--no-cov", "tests/conformance", *session.posargs, env=INSTALLED_ALONE)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Print the figures of robustness and speed with their goals; ``--only WORD`` runs some."""
    session.install(".[test]", *group("benchmarks"))
    session.run("python", "tests/benchmarks", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Make 100,000 calls through faults and outages; fail if any is lost."""
    session.install(".[test]")
    session.run("python", "tests/soak.py", *session.posargs)
