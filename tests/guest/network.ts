/**
 * What guests on a network need around them: the arguments of their devices, and
 * somebody at the other end who counts and checks.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";

/** How a network device is given to QEMU. */
export interface NetDeviceOptions {
  /** Queue pairs (1). */
  readonly queues?: number;
  /** More properties of the device, each with its comma. */
  readonly properties?: string;
  /** MAC address (52:54:00:12:34:56). */
  readonly mac?: string;
  /** Milliseconds between attempts to connect again; 0: none. */
  readonly reconnect?: number;
}

/** Arguments of a virtio-net device whose control queue QEMU answers. */
export function vhostUserNet(
  socket: string,
  options: NetDeviceOptions = {},
): string[] {
  const { queues = 1, properties = "", reconnect = 0 } = options;
  const mac = `,mac=${options.mac ?? "52:54:00:12:34:56"}`;
  const again = reconnect > 0 ? `,reconnect-ms=${reconnect}` : "";
  const several = queues > 1 ? `,mq=on,vectors=${2 * queues + 2}` : "";
  return [
    ...["-chardev", `socket,id=net,path=${socket}${again}`],
    ...["-netdev", `vhost-user,id=n0,chardev=net,queues=${queues}`],
    "-device",
    "virtio-net-pci,netdev=n0,romfile=" + several + mac +
    properties,
  ];
}

/** Arguments of a virtio-net device whose control queue is the back-end's. */
export function genericNet(socket: string, queues = 1): string[] {
  return [
    ...["-chardev", `socket,id=net,path=${socket}`],
    "-device",
    "vhost-user-test-device-pci,chardev=net,virtio-id=1," +
    `num_vqs=${2 * queues + 1},vq_size=256,config_size=20`,
  ];
}

async function writeAll(
  connection: Deno.TcpConn,
  bytes: Uint8Array,
): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    at += await connection.write(bytes.subarray(at));
  }
}

/** A listener or a connection that was closed under an operation. */
function isClosed(error: unknown): boolean {
  return error instanceof Deno.errors.BadResource ||
    error instanceof Deno.errors.Interrupted;
}

/**
 * Takes connections, reads each to its end, and keeps its digest; on request it
 * says again what it reads.
 */
export class Sink implements AsyncDisposable {
  readonly port: number;
  /** SHA-256 of each connection, in hexadecimal. */
  readonly digests: string[] = [];
  /** Where each came from. */
  readonly peers: string[] = [];
  /** Bytes of all connections. */
  bytes = 0;
  readonly #listener: Deno.TcpListener;
  readonly #done: Promise<void>;
  readonly #echo: boolean;
  #connection: Deno.TcpConn | null = null;

  /**
   * @param hostname where to listen
   * @param options `echo`: send all back (default false)
   */
  constructor(hostname: string, { echo = false }: { echo?: boolean } = {}) {
    this.#echo = echo;
    this.#listener = Deno.listen({ hostname, port: 0 });
    this.port = this.#listener.addr.port;
    this.#done = this.#serve();
  }

  async #serve(): Promise<void> {
    try {
      for await (const connection of this.#listener) {
        await this.#read(connection);
      }
    } catch (error) {
      if (!isClosed(error)) throw error;
    }
  }

  async #read(connection: Deno.TcpConn): Promise<void> {
    const hash = createHash("sha256");
    const buffer = new Uint8Array(1 << 18);
    this.#connection = connection;
    this.peers.push(connection.remoteAddr.hostname);
    // A peer that only writes for a while must not be kept from it.
    let echoed = Promise.resolve();
    try {
      for (;;) {
        const n = await connection.read(buffer);
        if (n === null) break;
        hash.update(buffer.subarray(0, n));
        this.bytes += n;
        if (!this.#echo) continue;
        const bytes = buffer.slice(0, n);
        echoed = echoed.then(() => writeAll(connection, bytes));
        echoed.catch(() => {}); // told where it is awaited
      }
      this.digests.push(hash.digest("hex"));
      await echoed;
      connection.close();
    } finally {
      this.#connection = null;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    // A guest that is gone says nothing any more.
    this.#connection?.close();
    await this.#done;
  }
}

/** Gives every connection the same bytes. */
export class Source implements AsyncDisposable {
  readonly port: number;
  /** SHA-256 of the bytes, in hexadecimal. */
  readonly digest: string;
  readonly #bytes: Uint8Array;
  readonly #listener: Deno.TcpListener;
  readonly #done: Promise<void>;
  #connection: Deno.TcpConn | null = null;

  /** @param size bytes that each connection gets */
  constructor(hostname: string, size: number) {
    this.#bytes = new Uint8Array(size);
    for (let at = 0; at < size; at += 65_536) {
      crypto.getRandomValues(this.#bytes.subarray(at, at + 65_536));
    }
    this.digest = createHash("sha256").update(this.#bytes).digest("hex");
    this.#listener = Deno.listen({ hostname, port: 0 });
    this.port = this.#listener.addr.port;
    this.#done = this.#serve();
  }

  async #serve(): Promise<void> {
    try {
      for await (const connection of this.#listener) {
        using _connection = connection;
        for (let at = 0; at < this.#bytes.length;) {
          at += await connection.write(
            this.#bytes.subarray(at, at + (1 << 18)),
          );
        }
        await connection.closeWrite();
        // The guest closes when it has all.
        await connection.read(new Uint8Array(1));
      }
    } catch (error) {
      if (!isClosed(error)) throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    this.#connection?.close();
    await this.#done;
  }
}

/** Sends datagrams of a few bytes. */
export class Datagrams implements AsyncDisposable {
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** @param hostname whose address they come from */
  static async bind(hostname: string): Promise<Datagrams> {
    const socket = createSocket("udp4");
    socket.bind(0, hostname);
    await once(socket, "listening");
    return new Datagrams(socket);
  }

  /** Sends one to port 7 of an address, of a group too. */
  send(address: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.send(new Uint8Array(40), 7, address, (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#socket, "close");
    this.#socket.close();
    await closed;
  }
}

/** A script's part that gets an address by DHCP for eth0. */
export const DHCP = `
  cat > /udhcpc.sh <<'END'
#!/sbin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/\${mask:-24} dev $interface
ip route add default via \${router%% *} dev $interface
echo "$ip" > /address
echo "\${router%% *}" > /router
END
  chmod +x /udhcpc.sh
  ip link set eth0 up
  check dhcp udhcpc -i eth0 -n -q -f -t 10 -T 1 -s /udhcpc.sh
`;

/** A script's part that sends and receives over TCP, and says what it saw. */
export function bulk(host: string, sink: number, source: number): string {
  return `
  dd if=/dev/urandom of=/tmp/data bs=1M count=16 2>/dev/null
  say SENT $(sha256sum < /tmp/data)
  check send nc ${host} ${sink} < /tmp/data
  say RECEIVED $(nc ${host} ${source} < /dev/null | sha256sum)
`;
}
