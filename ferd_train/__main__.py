"""``python -m ferd_train``, the form that ``torchrun -m`` takes."""

from ferd_train.cli import main

if __name__ == "__main__":
    main()
