# shellcheck shell=bash
# title: node: 500 MB in four worker threads
set -e -o pipefail
cat > worker.js <<'J'
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto');
const MB = 1 << 20;
if (isMainThread) {
  const shared = new SharedArrayBuffer(4096);
  const counters = new Int32Array(shared);
  const workers = 4;
  const lines = [];
  let left = workers;
  for (let id = 0; id < workers; ++id) {
    const worker = new Worker(__filename, { workerData: { id, shared } });
    worker.on('message', (m) => {
      const sum = crypto.createHash('sha256').update(m.buffer).digest('hex');
      lines.push(`worker ${id}: ${m.text}, given ${m.buffer.length} bytes ${sum}`);
    });
    worker.on('error', (e) => { throw e; });
    worker.on('exit', (code) => {
      lines.push(`worker ${id}: exit ${code}`);
      if (--left === 0) {
        console.log(lines.sort().join('\n'));
        console.log('counted', Atomics.load(counters, 0));
      }
    });
  }
} else {
  const { id, shared } = workerData;
  const counters = new Int32Array(shared);
  // 100 MB outside the heap and some 25 MB in it, all held at once.
  const blocks = [];
  for (let i = 0; i < 100; ++i) {
    const block = Buffer.alloc(MB, (id * 31 + i) & 255);
    for (let at = 0; at < MB; at += 4096) block.writeUInt32LE(at * (i + 1) >>> 0, at);
    blocks.push(block);
    Atomics.add(counters, 0, 1);
  }
  const objects = [];
  for (let i = 0; i < 250000; ++i) objects.push({ key: `k${i * 7919 % 250007}`, value: i, id });
  objects.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  const map = new Map(objects.map((o) => [o.key, o.value]));
  const hash = crypto.createHash('sha256');
  for (const block of blocks) hash.update(block);
  let sum = 0;
  for (const [key, value] of map) sum = (sum * 33 + key.length * value) % 1000003;
  const given = blocks[17];
  parentPort.postMessage({ text: `${hash.digest('hex')} ${map.size} ${sum}`, buffer: new Uint8Array(given) });
}
J
node worker.js
