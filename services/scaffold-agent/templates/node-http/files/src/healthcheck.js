// Asks the running service for its health: `node src/healthcheck.js`. Exit code 0 means healthy.

import { pathToFileURL } from 'node:url';

import { readSettings } from './settings.js';

/** Whether a service on this machine says that it is healthy, within 2 s. */
export async function isHealthy(port) {
  try {
    const signal = AbortSignal.timeout(2000);
    const response = await fetch(`http://127.0.0.1:${port}/health`, { signal });
    await response.body.cancel();
    return response.status === 200;
  } catch {
    return false;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  process.exitCode = (await isHealthy(readSettings(process.env).port)) ? 0 : 1;
}
