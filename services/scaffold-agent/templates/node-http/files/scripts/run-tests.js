// Runs every test: `node scripts/run-tests.js`. Writes `junit.xml` and `lcov.info`.

import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const COVERAGE = path.join(ROOT, 'lcov.info');
const REPORTS = { spec: 'stdout', junit: path.join(ROOT, 'junit.xml'), lcov: COVERAGE };

for (const file of Object.values(REPORTS)) {
  if (file !== 'stdout') rmSync(file, { force: true });
}
const reporters = Object.entries(REPORTS).flatMap(([name, place]) => [
  `--test-reporter=${name}`,
  `--test-reporter-destination=${place}`,
]);
const { status } = spawnSync(
  process.execPath,
  ['--test', '--experimental-test-coverage', ...reporters],
  { cwd: ROOT, stdio: 'inherit' },
);
// Node 20 counts the tests themselves as covered code.
const records = readFileSync(COVERAGE, 'utf8').split(/(?<=^end_of_record\n)/m);
writeFileSync(COVERAGE, records.filter((record) => !/^SF:test\//m.test(record)).join(''));
process.exitCode = status ?? 1;
