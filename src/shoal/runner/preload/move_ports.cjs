// Loaded by node before a service's own code (NODE_OPTIONS=--require): a server that listens on the port that its
// service declares, hard-coded, listens on 127.0.0.1:$PORT instead, so that several replicas run side by side.
// SHOAL_MOVE_PORTS=3000:41233,9000:41234
'use strict';

const moves = new Map(
  (process.env.SHOAL_MOVE_PORTS || '').split(',').filter(Boolean).map((pair) => pair.split(':').map(Number))
);

if (moves.size > 0) {
  const net = require('net');
  const listen = net.Server.prototype.listen;
  const moved = (port) => (typeof port === 'number' || /^\d+$/.test(port) ? moves.get(Number(port)) : undefined);

  net.Server.prototype.listen = function (...args) {
    const [first, second] = args;
    if (first !== null && typeof first === 'object' && moved(first.port) !== undefined) {
      args[0] = { ...first, port: moved(first.port), host: '127.0.0.1', ipv6Only: false };
    } else if (moved(first) !== undefined) {
      // listen(port), (port, host, ...), (port, backlog, ...), (port, callback): the host is second, or is put there.
      const host = args.length > 1 && (typeof second === 'string' || second === undefined || second === null);
      args.splice(0, host ? 2 : 1, moved(first), '127.0.0.1');
    }
    return listen.apply(this, args);
  };
}
