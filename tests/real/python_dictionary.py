"""python_dictionary.py COUNT: fills a dictionary, and looks at all of it in order and a hundredth at random."""

import hashlib
import sys

n = int(sys.argv[1])
d = {}
for i in range(n):
    d["key %d" % i] = "value %d of many" % (i * 7919 % 1000003)
h = hashlib.sha256()
for i in range(n):
    v = d["key %d" % i]
    assert v == "value %d of many" % (i * 7919 % 1000003), i
    h.update(v.encode())
x = 1
for _ in range(n // 100):
    x = (x * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
    i = (x >> 33) % n
    assert d["key %d" % i] == "value %d of many" % (i * 7919 % 1000003), i
print(n, len(d), h.hexdigest())
