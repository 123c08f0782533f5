import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';

import { isHealthy } from '../src/healthcheck.js';
import { createServer } from '../src/server.js';
import { NAME } from '../src/settings.js';

describe('server', () => {
  let server;
  let port;

  before(async () => {
    server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    port = server.address().port;
  });

  after(() => {
    server.close();
    server.closeAllConnections();
  });

  async function ask(method, path, body) {
    const request = http.request({ host: '127.0.0.1', port, method, path }).end(body);
    const [response] = await once(request, 'response');
    const chunks = await response.toArray();
    return { status: response.statusCode, headers: response.headers, body: chunks.join('') };
  }

  test('the page names the app', async () => {
    const { status, headers, body } = await ask('GET', '/');
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'text/html; charset=utf-8');
    assert.ok(body.includes(`<h1>${NAME}</h1>`), body);
  });

  test('health is JSON', async () => {
    const { status, body } = await ask('GET', '/health?verbose=1');
    assert.equal(status, 200);
    assert.deepEqual(JSON.parse(body), { status: 'ok', name: NAME });
  });

  test('the health check sees a running service and only that', async () => {
    assert.equal(await isHealthy(port), true);
    const unused = net.createServer().listen(0, '127.0.0.1');
    await once(unused, 'listening');
    const free = unused.address().port;
    unused.close();
    await once(unused, 'close');
    assert.equal(await isHealthy(free), false);
  });

  test('unknown paths are 404', async () => {
    for (const path of ['/nothing', '//', '/health/', '/../etc/passwd']) {
      assert.equal((await ask('GET', path)).status, 404, path);
    }
  });

  test('HEAD has headers and no body', async () => {
    const { status, headers, body } = await ask('HEAD', '/');
    assert.equal(status, 200);
    assert.ok(Number(headers['content-length']) > 0);
    assert.equal(body, '');
  });

  test('other methods are refused and the connection closed', async () => {
    const { status, headers } = await ask('POST', '/', 'GET / HTTP/1.1\r\n\r\n');
    assert.equal(status, 405);
    assert.equal(headers.allow, 'GET, HEAD');
    assert.equal(headers.connection, 'close');
  });

  test('a malformed request is answered with 400', async () => {
    const socket = net.connect(port, '127.0.0.1');
    socket.write('nonsense\r\n\r\n');
    const [data] = await once(socket, 'data');
    assert.match(String(data), /^HTTP\/1\.1 400 /);
    socket.destroy();
  });
});
