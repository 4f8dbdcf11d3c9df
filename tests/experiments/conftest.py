import pytest


@pytest.fixture(scope="session", autouse=True)
def _recipes_made_once(recipes_made_once):
    """In all of this folder."""
