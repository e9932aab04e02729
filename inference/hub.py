"""Bring an exported prompt to the Hugging Face hub, by the optional package huggingface_hub."""

import importlib.util
from pathlib import Path

from dassl.utils import UserError


def check_package() -> None:
    """Refuse to begin without the package.

    Raises:
        UserError: it is missing.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UserError(
            "--push needs huggingface_hub, which is not installed: pip install huggingface_hub"
        )


def push(folder: Path, repository: str, public: bool = False) -> str:
    """Upload a folder; a repository that is not there yet is made.

    Args:
        folder: of an exported prompt.
        repository: `<user or organisation>/<name>`.
        public: who may see a repository that is made; one that is there stays as it is.

    Returns:
        The address of the commit.

    Raises:
        UserError: it was not uploaded, and why; the folder stays.
    """
    check_package()
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repository, private=not public, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Add an exported prompt"
        )
    except Exception as error:  # of the network, of the service, of names and rights
        raise UserError(
            f"{folder} is written, but could not be pushed to {repository}: {error}"
        ) from error
    return str(done)
