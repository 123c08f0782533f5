import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { run } from '../src/service.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

test('it serves until it is asked to stop', async () => {
  const seen = [];
  const code = await run({ PORT: '0' }, async (url) => {
    seen.push((await fetch(`${url}/health`)).status);
    process.kill(process.pid, 'SIGTERM');
  });
  assert.equal(code, 0);
  assert.deepEqual(seen, [200]);
});

test('a bad port is refused', async () => {
  assert.equal(await run({ PORT: 'eighty' }), 64);
});

test('a taken port is refused', async () => {
  const taken = net.createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  assert.equal(await run({ PORT: String(taken.address().port) }), 1);
  taken.close();
});

test('the process ends with code 0 on SIGTERM', { timeout: 20_000 }, async () => {
  const child = spawn(process.execPath, ['src/main.js'], {
    cwd: ROOT,
    env: { ...process.env, PORT: '0', HOST: '127.0.0.1' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const [line] = await once(createInterface({ input: child.stdout }), 'line');
    assert.equal((await fetch(`${line.split(' ').at(-1)}/`)).status, 200);
    const exit = once(child, 'exit');
    child.kill('SIGTERM');
    assert.deepEqual(await exit, [0, null]);
  } finally {
    child.kill('SIGKILL');
  }
});
