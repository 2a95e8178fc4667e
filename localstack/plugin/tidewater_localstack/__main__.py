"""Starts LocalStack, on Python 3.12 too: version 4.14 uses one thing that came with 3.13."""

import warnings

if not hasattr(warnings, "deprecated"):
    from typing_extensions import deprecated

    warnings.deprecated = deprecated

if __name__ == "__main__":
    from localstack.runtime.main import main

    main()
