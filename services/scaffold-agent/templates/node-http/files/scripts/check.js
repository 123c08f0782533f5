// Parses every file of ours, as the build of a language without one: `node scripts/check.js`.

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const FOLDERS = ['src', 'scripts', 'test'];

const files = FOLDERS.flatMap((folder) =>
  readdirSync(path.join(ROOT, folder), { recursive: true })
    .filter((name) => name.endsWith('.js'))
    .map((name) => path.join(folder, name)),
).sort();

let failed = 0;
for (const file of files) {
  const { status } = spawnSync(process.execPath, ['--check', file], { cwd: ROOT, stdio: 'inherit' });
  if (status !== 0) failed += 1;
}
console.log(`${files.length - failed} of ${files.length} files parse`);
process.exitCode = failed === 0 && files.length > 0 ? 0 : 1;
