// Starts the service: `node src/main.js`.

import { run } from './service.js';

process.exitCode = await run(process.env);
