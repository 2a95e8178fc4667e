// Controls one database of an official web SDK for a test, in a page of headless Chromium. The commands
// and results are those of `node.mjs`. The arguments are the SDK's package, the name of its file system,
// and the browser's program.
//
// It bundles the page as an app does, serves it with the SDK's own workers, and speaks Chromium's
// DevTools protocol through a pipe.

import { spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, extname, join, normalize } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const [packageName, vfs, program] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
const distribution = join(here, 'node_modules', packageName, 'dist');

const types = { '.html': 'text/html', '.js': 'text/javascript', '.wasm': 'application/wasm' };

// Returns the text of the page's script, as an app's bundler makes it.
async function bundle() {
  const { version } = JSON.parse(await readFile(join(distribution, '../package.json'), 'utf8'));
  // Since version 2, one worker does everything.
  const isUnified = Number(version.split('.')[0]) >= 2;
  const settings = {
    vfs,
    isUnified,
    // The workers in the package, which need no bundler.
    dbWorker: isUnified ? '/sdk/worker/worker.js' : '/sdk/worker/WASQLiteDB.umd.js',
    syncWorker: isUnified ? '/sdk/worker/worker.js' : '/sdk/worker/SharedSyncImplementation.umd.js',
  };
  const module = Object.entries(settings)
    .map(([name, value]) => `export const ${name} = ${JSON.stringify(value)};`)
    .join('\n');
  const built = await build({
    entryPoints: [join(here, 'page.mjs')],
    bundle: true,
    write: false,
    format: 'esm',
    target: 'chrome120',
    logLevel: 'error',
    alias: { sdk: packageName },
    // SQLite's module has a branch for Node.
    external: ['module', 'fs', 'path', 'crypto'],
    plugins: [
      {
        name: 'settings',
        setup(build) {
          build.onResolve({ filter: /^settings$/ }, ({ path }) => ({ path, namespace: 'settings' }));
          build.onLoad({ filter: /.*/, namespace: 'settings' }, () => ({ contents: module }));
        },
      },
    ],
  });
  return built.outputFiles[0].text;
}

// URL of the test's backend. A page uploads to its own origin, so that the backend needs no CORS.
let backend;

const page = '<!doctype html><title>app</title><script type="module" src="/page.js"></script>';

async function contents(path, script) {
  if (path === '/') return ['.html', page];
  if (path === '/page.js') return ['.js', script];
  if (!path.startsWith('/sdk/')) throw new Error(`no such path: ${path}`);
  const file = join(distribution, normalize(path.slice('/sdk'.length)));
  return [extname(file), await readFile(file)];
}

async function upload(request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const { authorization } = request.headers;
  const answer = await fetch(backend, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization },
    body: Buffer.concat(chunks),
  });
  response.writeHead(answer.status).end(await answer.text());
}

// Serves the page. The headers isolate it from other origins: apps need that for shared memory, and
// then the sync API must allow that it is used.
async function serve(script) {
  const server = createServer(async (request, response) => {
    const isolation = {
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-embedder-policy': 'require-corp',
    };
    try {
      if (request.url === '/upload') return await upload(request, response);
      const [type, body] = await contents(new URL(request.url, 'http://page').pathname, script);
      response.writeHead(200, { 'content-type': types[type] ?? 'text/plain', ...isolation });
      response.end(body);
    } catch (error) {
      response.writeHead(404).end(String(error));
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${server.address().port}/`;
}

// A browser without a window, which ends when its pipe closes.
class Browser {
  constructor(process) {
    this.process = process;
    this.calls = new Map();
    this.number = 0;
    const [, , , input, output] = process.stdio;
    this.input = input;
    let text = '';
    output.setEncoding('utf8').on('data', (chunk) => {
      const messages = (text + chunk).split('\0');
      text = messages.pop();
      for (const message of messages) this.receive(JSON.parse(message));
    });
  }

  static start() {
    const flags = [
      '--headless=new',
      '--remote-debugging-pipe',
      `--user-data-dir=${mkdtempSync(join(tmpdir(), 'chromium-'))}`,
      '--no-first-run',
      '--disable-gpu',
      '--disable-extensions',
      '--disable-background-networking',
      '--disable-component-update',
      // In containers, shared memory is small.
      '--disable-dev-shm-usage',
      // Pages that nobody sees run as fast as others.
      '--disable-background-timer-throttling',
      '--disable-renderer-backgrounding',
      // The sandbox does not start as root. The only page is that of the test.
      ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
      'about:blank',
    ];
    return new Browser(spawn(program, flags, { stdio: ['ignore', 2, 2, 'pipe', 'pipe'] }));
  }

  receive({ id, result, error, method, params }) {
    const call = this.calls.get(id);
    this.calls.delete(id);
    if (error) call?.reject(new Error(error.message));
    else call?.resolve(result);
    if (method === 'Runtime.consoleAPICalled') {
      console.error(params.type, ...params.args.map((arg) => arg.value ?? arg.description));
    }
    if (method === 'Runtime.exceptionThrown' || method === 'Log.entryAdded') {
      console.error(JSON.stringify(params));
    }
  }

  call(method, params = {}, sessionId = this.session) {
    this.number += 1;
    const id = this.number;
    const reply = new Promise((resolve, reject) => this.calls.set(id, { resolve, reject }));
    this.input.write(`${JSON.stringify({ id, method, params, ...(sessionId && { sessionId }) })}\0`);
    return reply;
  }

  async open(url) {
    const { targetId } = await this.call('Target.createTarget', { url: 'about:blank' });
    const attached = await this.call('Target.attachToTarget', { targetId, flatten: true });
    this.session = attached.sessionId;
    await this.call('Runtime.enable');
    await this.call('Log.enable');
    await this.call('Page.enable');
    await this.call('Page.navigate', { url });
    // The script is ready when it has defined the function.
    while ((await this.evaluate('typeof globalThis.run')) !== 'function') {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async evaluate(expression) {
    const params = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.call('Runtime.evaluate', params);
    if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
    return result.value;
  }
}

const browser = Browser.start();
browser.process.on('exit', () => process.exit(1));
process.on('SIGTERM', () => browser.call('Browser.close', {}, null));
await browser.open(await serve(await bundle()));

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  if (command.open) {
    backend = command.open.backend;
    command.open = { ...command.open, file: 'app.sqlite', backend: '/upload' };
  }
  const answer = await browser.evaluate(`run(${JSON.stringify(JSON.stringify(command))})`);
  process.stdout.write(`${answer}\n`);
}
await browser.call('Browser.close', {}, null);
