/**
 * The other end of a network device's stream of frames: a host on the wire that
 * answers ARP and ICMP echo requests, and counts who asked.
 *
 * @module
 */

const LENGTH_SIZE = 4;
const ETHERTYPE_IP = 0x0800, ETHERTYPE_ARP = 0x0806, ETHERTYPE_RARP = 0x8035;

/** Accepts any number of devices on one socket, at `10.9.0.1`. */
export class Wire implements AsyncDisposable {
  /** Echo requests answered, by the connection that they came on, from 0. */
  readonly echoes: number[] = [];
  /** Announcements (RARP, gratuitous ARP) by connection. */
  readonly announcements: number[] = [];
  readonly #listener: Deno.UnixListener;
  readonly #connections = new Set<Deno.UnixConn>();
  readonly #done: Promise<void>;

  /** @param path of the socket */
  constructor(path: string) {
    this.#listener = Deno.listen({ transport: "unix", path });
    this.#done = this.#accept();
  }

  async #accept(): Promise<void> {
    const serving: Promise<void>[] = [];
    try {
      for await (const connection of this.#listener) {
        serving.push(this.#serve(connection as Deno.UnixConn));
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
    await Promise.all(serving);
  }

  async #serve(connection: Deno.UnixConn): Promise<void> {
    const number = this.echoes.push(0) - 1;
    this.announcements.push(0);
    this.#connections.add(connection);
    let bytes = new Uint8Array(0);
    const chunk = new Uint8Array(1 << 16);
    try {
      for (;;) {
        const n = await connection.read(chunk);
        if (n === null) break;
        const all = new Uint8Array(bytes.length + n);
        all.set(bytes);
        all.set(chunk.subarray(0, n), bytes.length);
        bytes = all;
        for (;;) {
          if (bytes.length < LENGTH_SIZE) break;
          const length = new DataView(bytes.buffer, bytes.byteOffset)
            .getUint32(0);
          if (bytes.length < LENGTH_SIZE + length) break;
          const frame = bytes.slice(LENGTH_SIZE, LENGTH_SIZE + length);
          bytes = bytes.subarray(LENGTH_SIZE + length);
          const answer = this.#answer(frame, number);
          if (answer === null) continue;
          const out = new Uint8Array(LENGTH_SIZE + answer.length);
          new DataView(out.buffer).setUint32(0, answer.length);
          out.set(answer, LENGTH_SIZE);
          for (let at = 0; at < out.length;) {
            at += await connection.write(out.subarray(at));
          }
        }
      }
      connection.close();
    } catch (error) {
      // The device went away, or we do.
      const gone = [
        Deno.errors.BadResource,
        Deno.errors.BrokenPipe,
        Deno.errors.ConnectionReset,
        Deno.errors.Interrupted,
      ];
      if (!gone.some((kind) => error instanceof kind)) throw error;
    } finally {
      this.#connections.delete(connection);
    }
  }

  #answer(frame: Uint8Array, connection: number): Uint8Array | null {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
    const type = view.getUint16(12);
    if (type === ETHERTYPE_RARP) this.announcements[connection]++;
    if (type === ETHERTYPE_ARP) return this.#answerArp(frame, view, connection);
    if (type === ETHERTYPE_IP) return this.#answerEcho(frame, connection);
    return null;
  }

  #answerArp(
    frame: Uint8Array,
    view: DataView,
    connection: number,
  ): Uint8Array | null {
    const sender = view.getUint32(28), target = view.getUint32(38);
    if (sender === target) this.announcements[connection]++;
    if (view.getUint16(20) !== 1 || target !== ADDRESS) return null;
    const answer = frame.slice();
    answer.set(frame.subarray(6, 12), 0);
    answer.set(MAC, 6);
    answer[21] = 2;
    answer.set(frame.subarray(22, 32), 32);
    answer.set(MAC, 22);
    answer.set(frame.subarray(38, 42), 28);
    return answer;
  }

  #answerEcho(frame: Uint8Array, connection: number): Uint8Array | null {
    const header = (frame[14] & 0xf) * 4;
    const icmp = 14 + header;
    if (frame[23] !== 1 || frame[icmp] !== 8) return null;
    this.echoes[connection]++;
    const answer = frame.slice();
    answer.set(frame.subarray(6, 12), 0);
    answer.set(MAC, 6);
    answer.set(frame.subarray(30, 34), 26);
    answer.set(frame.subarray(26, 30), 30);
    // Type 8 becomes 0: the checksum grows by 0x0800, in ones' complement.
    answer[icmp] = 0;
    const view = new DataView(answer.buffer);
    const sum = view.getUint16(icmp + 2) + 0x0800;
    view.setUint16(icmp + 2, (sum & 0xffff) + (sum >> 16));
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of [...this.#connections]) connection.close();
    await this.#done;
  }
}

const ADDRESS = 0x0a090001;
const MAC = [0x52, 0x54, 0, 0xff, 0, 1];
