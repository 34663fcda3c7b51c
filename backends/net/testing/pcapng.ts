/**
 * Reads pcapng files, as far as tests need it.
 *
 * @module
 */

/** A packet of a capture. */
export interface CapturedPacket {
  /** Microseconds since 1970. */
  readonly time: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** `epb_flags`. */
  readonly flags: number;
}

/** The packets of a file, whose blocks are checked. */
export function readCapture(path: string): CapturedPacket[] {
  const bytes = Deno.readFileSync(path);
  const view = new DataView(bytes.buffer);
  const word = (at: number) => view.getUint32(at, true);
  const packets: CapturedPacket[] = [];
  const types: number[] = [];
  for (let at = 0; at < bytes.length;) {
    const type = word(at), size = word(at + 4);
    if (size % 4 !== 0 || word(at + size - 4) !== size) {
      throw new Error(`the block at ${at} says ${size} bytes`);
    }
    types.push(type);
    if (type === 6) {
      const length = word(at + 20);
      const options = at + 28 + Math.ceil(length / 4) * 4;
      if (word(at + 8) !== 0 || word(at + 24) !== length) {
        throw new Error("the packet is not whole");
      }
      if (view.getUint16(options, true) !== 2 || word(options + 8) !== 0) {
        throw new Error("the packet has no flags");
      }
      packets.push({
        time: word(at + 12) * 2 ** 32 + word(at + 16),
        bytes: bytes.slice(at + 28, at + 28 + length),
        flags: word(options + 4),
      });
    }
    at += size;
  }
  if (types[0] !== 0x0a0d0d0a || word(8) !== 0x1a2b3c4d || types[1] !== 1) {
    throw new Error("the file has no header");
  }
  return packets;
}
