"""``python -m ferd_train``, as ``torchrun -m`` needs it."""

from ferd_train.cli import main

if __name__ == "__main__":
    main()
