// `shoal dev --debug SERVICE` for Node, loaded by --require: opens the inspector where SHOAL_DEBUG says, as soon as the
// replica before this one has let go of the address.
'use strict';

const inspector = require('node:inspector');
const net = require('node:net');

const address = process.env.SHOAL_DEBUG || '';
delete process.env.SHOAL_DEBUG;
const [host, port] = address.split(':');

function open() {
  const probe = net.createServer();
  probe.unref();
  probe.once('error', () => setTimeout(open, 200).unref());
  probe.listen(Number(port), host, () => probe.close(() => inspector.open(Number(port), host)));
}

if (address && !inspector.url()) {
  open();
}
