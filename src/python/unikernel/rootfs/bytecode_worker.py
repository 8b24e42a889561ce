"""Compiles Python sources, run by the interpreter of the image. Imports nothing that is not built in or frozen: it starts at once.

Standard input: NUL-separated triples of source file, file to write, and the path that the code object is to carry. Sources that do
not compile are named on standard output, one line each, and skipped, as an installer does.
"""

import sys

import _frozen_importlib_external as importlib_external  # type: ignore[import]
import _imp


def main() -> None:
    magic_number = int.from_bytes(importlib_external.MAGIC_NUMBER, "little")
    words = sys.stdin.buffer.read().split(b"\0")[:-1]
    for start in range(0, len(words), 3):
        source_path, pyc_path, code_path = (word.decode("utf-8", "surrogateescape") for word in words[start : start + 3])
        with open(source_path, "rb") as stream:
            source = stream.read()
        try:
            code = compile(source, code_path, "exec", dont_inherit=True, optimize=0)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            print(f"{code_path}: {error}")
            continue
        source_hash = _imp.source_hash(magic_number, source)
        # Unchecked: the importer neither hashes nor stats the source (PEP 552).
        pyc = importlib_external._code_to_hash_pyc(code, source_hash, False)  # type: ignore[attr-defined]
        with open(pyc_path, "wb") as stream:
            stream.write(pyc)


main()
