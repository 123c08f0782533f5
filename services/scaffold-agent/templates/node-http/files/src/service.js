// Runs the server until the process is asked to stop.

import { once } from 'node:events';

import { createServer } from './server.js';
import { InvalidSetting, readSettings } from './settings.js';

const STOP_SIGNALS = ['SIGTERM', 'SIGINT'];

/** Serves until SIGTERM or SIGINT; gives the exit code. Calls `started` once it listens. */
export async function run(environment, started = () => {}) {
  let settings;
  try {
    settings = readSettings(environment);
  } catch (error) {
    if (!(error instanceof InvalidSetting)) throw error;
    console.error(error.message);
    return 64;
  }
  const server = createServer();
  try {
    server.listen(settings.port, settings.host);
    await once(server, 'listening');
  } catch (error) {
    console.error(`cannot listen on ${settings.host}:${settings.port}: ${error.message}`);
    return 1;
  }
  const stop = stopRequest();
  const { address, port } = server.address();
  const url = `http://${address}:${port}`;
  console.log(`listening on ${url}`);
  started(url);
  await stop;
  await close(server);
  console.log('stopped');
  return 0;
}

function stopRequest() {
  return new Promise((resolve) => {
    const stop = () => {
      for (const name of STOP_SIGNALS) process.off(name, stop);
      resolve();
    };
    for (const name of STOP_SIGNALS) process.on(name, stop);
  });
}

/** Answers the requests that have begun, then closes. */
function close(server) {
  return new Promise((resolve) => {
    server.close(resolve);
    server.closeIdleConnections();
  });
}
