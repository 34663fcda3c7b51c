/**
 * What a receiver cannot do is done for it: checksums and segmentation.
 *
 * Theory of operation: a frame that asks for more than the next one on its way
 * agreed to is copied to private memory, finished there, and handed on as one or
 * several ordinary frames. All others pass by untouched. How many pieces a frame
 * becomes its sender says; more than the receiver has room for are not made.
 *
 * @module
 */

import { fillChecksum } from "./checksum.ts";
import { Frame } from "./frame.ts";
import { HDR_F_NEEDS_CSUM, MAX_FRAME, Offload } from "./protocol.ts";
import { SEGMENT_GROWTH, Segmenter } from "./segment.ts";

/** Offset of pieces behind the frame. */
const PIECE = Math.ceil(MAX_FRAME / 64) * 64;

/** Takes the frames that come out. */
export interface FrameSink {
  /**
   * Takes a frame; it may be used again afterwards.
   *
   * @returns false when it was lost: the rest of a frame that is cut is of no
   * use then, and not cut any more
   */
  emit(frame: Frame): boolean;
}

/** Finishes frames in software. */
export class SoftwareOffload implements Disposable {
  /** Frames whose checksum was filled in. */
  checksums = 0;
  /** Frames that were cut. */
  segmented = 0;
  /** Pieces that came of it. */
  segments = 0;
  /** Frames that were not what their header said. */
  malformed = 0;
  readonly #frame = new Frame(1, PIECE + MAX_FRAME + SEGMENT_GROWTH);
  readonly #view: DataView<ArrayBuffer>;
  readonly #segmenter: Segmenter;

  /** Makes room for a frame and its pieces. */
  constructor() {
    const { bytes } = this.#frame;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#segmenter = new Segmenter(bytes, PIECE);
  }

  /**
   * Finishes a frame as far as needed.
   *
   * @param accepted what the receiver does itself: a set of
   * {@linkcode Offload}
   * @returns false when the frame is malformed and nothing came of it
   */
  run(frame: Frame, accepted: number, sink: FrameSink): boolean {
    const own = this.#frame;
    const missing = frame.header.needs & ~accepted;
    own.copy(frame);
    const { header } = own;
    if (missing === Offload.CSUM && header.gsoSize === 0) {
      fillChecksum(
        this.#view,
        own.length,
        header.csumStart,
        header.csumOffset,
      );
      header.flags &= ~HDR_F_NEEDS_CSUM;
      header.csumStart = 0;
      header.csumOffset = 0;
      this.checksums++;
      own.takeBytes(0, own.length);
      sink.emit(own);
      return true;
    }
    if (!this.#segmenter.begin(own.length, header)) {
      this.malformed++;
      return false;
    }
    header.clear();
    this.segmented++;
    for (;;) {
      const length = this.#segmenter.next();
      if (length === 0) return true;
      this.segments++;
      own.takeBytes(PIECE, length);
      if (!sink.emit(own)) return true;
    }
  }

  /** Gives the memory back. */
  [Symbol.dispose](): void {
    this.#frame[Symbol.dispose]();
  }
}
