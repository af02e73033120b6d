// A record log as CloudServer's metadata daemon serves one, over the library that the daemon uses, for the suite of the
// journal port. Commands come as lines of JSON on standard input: {"append": record}, {"truncate": first number kept};
// each is answered with a line on standard output, after a first line with the port.
'use strict';

const { createServer } = require('http');
const { randomUUID } = require('crypto');
const { createInterface } = require('readline');
const { Server } = require('socket.io');

const identity = randomUUID();
const records = new Map();
let next = 1;

// Numbers in order from start on, up to end, at most limit of them.
function select({ startSeq = 1, endSeq, limit = Infinity } = {}) {
  const last = Math.min(next - 1, endSeq ?? Infinity);
  const numbers = [...records.keys()].filter(number => number >= startSeq && number <= last).slice(0, limit);
  if (numbers.length === 0) return { info: { start: null, end: null }, numbers };
  const [start] = numbers;
  return { info: { start, end: Math.min(last, start + limit - 1) }, numbers };
}

// A stream to a client, in pieces of which four may be unacknowledged, each for five seconds at most.
async function stream(socket, streamId, numbers) {
  const waiting = new Set();
  for (let at = 0; at < numbers.length; at += 16) {
    while (waiting.size >= 4) await Promise.race(waiting);
    const data = numbers.slice(at, at + 16).map(number => records.get(number));
    const piece = socket.timeout(5000).emitWithAck('stream-data', { streamId, data });
    const settled = piece.catch(error => socket.emit('stream-error', { streamId, error: { message: error.message } }));
    const known = settled.finally(() => waiting.delete(known));
    waiting.add(known);
  }
  await Promise.all(waiting);
  await socket.timeout(5000).emitWithAck('stream-end', { streamId });
}

function serve(namespace, calls) {
  namespace.on('connection', socket => {
    socket.on('call', (name, args, answer) => {
      if (!(name in calls)) {
        const description = `Unknown remote call ${name} in namespace ${namespace.name}`;
        answer({ is_arsenal_error: true, type: 'InvalidArgument', code: 400, description });
        return;
      }
      calls[name](args, answer, socket);
    });
  });
}

const http = createServer();
const io = new Server(http, { maxHttpBufferSize: 100000000, pingInterval: 200, pingTimeout: 2000 });
serve(io.of('/MDFile/metadata'), { getUUID: (args, answer) => answer(null, identity) });
serve(io.of('/MDFile/recordLog'), {
  readRecords: (args, answer, socket) => {
    const { info, numbers } = select(args.rpcArgs[0]);
    const streamId = randomUUID();
    answer(null, { info, log: { $streamId: streamId, readable: true, writable: false } });
    stream(socket, streamId, numbers).catch(() => {});
  },
});

createInterface({ input: process.stdin }).on('line', line => {
  const { append, truncate } = JSON.parse(line);
  if (append) records.set(next++, append);
  for (const number of records.keys()) if (number < truncate) records.delete(number);
  console.log('ok');
}).on('close', () => process.exit(0));

http.listen(0, '127.0.0.1', () => console.log(http.address().port));
