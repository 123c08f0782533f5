// Answers requests. Knows nothing of processes and signals.

import { readFileSync } from 'node:fs';
import http from 'node:http';

import { NAME, REQUEST_LOG } from './settings.js';

const PAGE = readFileSync(new URL('page.html', import.meta.url));
const HTML = 'text/html; charset=utf-8';
const JSON_TYPE = 'application/json';
// What a browser may load for a page of ours.
const CONTENT_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'";

/** A server that does not listen yet. */
export function createServer() {
  const server = http.createServer((request, response) => {
    if (REQUEST_LOG) response.on('finish', () => logRequest(request, response));
    // A connection that stays open would keep a server that is closing.
    if (!server.listening) response.setHeader('Connection', 'close');
    respond(request, response);
  });
  return server;
}

function respond(request, response) {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    // The body is not read: what follows on this connection is not a request.
    response.setHeader('Connection', 'close');
    response.setHeader('Allow', 'GET, HEAD');
    send(response, 405, JSON_TYPE, asJson({ error: 'only GET and HEAD' }));
    return;
  }
  const [path] = request.url.split('?', 1);
  send(response, ...answer(path));
}

/** Status, media type and body for a path. */
export function answer(path) {
  if (path === '/') return [200, HTML, PAGE];
  if (path === '/health') return [200, JSON_TYPE, asJson({ status: 'ok', name: NAME })];
  return [404, JSON_TYPE, asJson({ error: 'no such page' })];
}

function asJson(value) {
  return Buffer.from(JSON.stringify(value));
}

function send(response, status, mediaType, body) {
  response.writeHead(status, {
    'Content-Type': mediaType,
    'Content-Length': body.length,
    'Content-Security-Policy': CONTENT_POLICY,
    'X-Content-Type-Options': 'nosniff',
  });
  // Node leaves the body of an answer to HEAD out by itself.
  response.end(body);
}

function logRequest(request, response) {
  const entry = { method: request.method, path: request.url, status: response.statusCode };
  console.log(JSON.stringify(entry));
}
