"""A program that prints, in JSON, what Xen's library reads in an xl.cfg file (tools/include/libxlutil.h of xen.git).

Its arguments: the library, the file, and the keys to look for. It is run with what the library is linked with on LD_LIBRARY_PATH.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any


def main(library: str, config: str, keys: list[str]) -> int:
    xlu = ctypes.CDLL(library)
    xlu.xlu_cfg_init.restype = ctypes.c_void_p
    xlu.xlu_cfg_init.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    xlu.xlu_cfg_readdata.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    xlu.xlu_cfg_get_listitem.restype = ctypes.c_char_p
    xlu.xlu_cfg_get_listitem.argtypes = [ctypes.c_void_p, ctypes.c_int]
    context = xlu.xlu_cfg_init(ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stderr"), config.encode())
    content = Path(config).read_bytes()
    if xlu.xlu_cfg_readdata(context, content, len(content)) != 0:
        return 1
    settings = {key: _value(xlu, ctypes.c_void_p(context), key.encode()) for key in keys}
    print(json.dumps({key: value for key, value in settings.items() if value is not None}))
    return 0


def _value(xlu: Any, context: ctypes.c_void_p, key: bytes) -> Any:
    found, count = ctypes.c_void_p(), ctypes.c_int()
    if xlu.xlu_cfg_get_list(context, key, ctypes.byref(found), ctypes.byref(count), 1) == 0:
        return [xlu.xlu_cfg_get_listitem(found, index).decode() for index in range(count.value)]
    text, number = ctypes.c_char_p(), ctypes.c_long()
    if xlu.xlu_cfg_get_string(context, key, ctypes.byref(text), 1) != 0:
        return None
    assert text.value is not None
    # xl asks for the one or the other; a number is written without quotes.
    if text.value.isdigit() and xlu.xlu_cfg_get_long(context, key, ctypes.byref(number), 1) == 0:
        return number.value
    return text.value.decode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
