import assert from 'node:assert/strict';
import { test } from 'node:test';

import { DEFAULT_PORT, InvalidSetting, readSettings } from '../src/settings.js';

test('an empty environment gives the defaults', () => {
  assert.deepEqual(readSettings({}), { host: '127.0.0.1', port: DEFAULT_PORT });
});

test('host and port come from the environment', () => {
  const settings = readSettings({ HOST: '0.0.0.0', PORT: '65535' });
  assert.deepEqual(settings, { host: '0.0.0.0', port: 65535 });
});

test('a port that is none is refused', () => {
  for (const text of ['65536', '-1', 'http', '8080.0', '0x50', ' 80', '٣']) {
    assert.throws(() => readSettings({ PORT: text }), InvalidSetting, text);
  }
});
