/**
 * What requests for blocks of a disk look like: those of virtio-blk, and SCSI
 * commands.
 *
 * Source: virtio 1.4, sections 5.2.6 and 5.6.6.
 *
 * @module
 */

/** The layout of a request. */
export interface RequestFormat {
  /** The ring that takes requests. */
  readonly ring: number;
  /** Number of the device's rings. */
  readonly rings: number;
  /** Bytes before the data. */
  readonly headerBytes: number;
  /** Bytes of the answer, without data. */
  readonly answerBytes: number;
  /** Whether the data of a read come after the answer. */
  readonly dataLast: boolean;
  /** Writes what all requests of a slot have in common. */
  prepare(
    view: DataView,
    header: number,
    write: boolean,
    bytes: number,
  ): void;
  /** Writes what a request is about: its first sector of 512 bytes. */
  submit(view: DataView, header: number, answer: number, sector: number): void;
  /** 0 where an answer is good. */
  status(view: DataView, answer: number): number;
}

const TWO_32 = 4294967296;

/** Requests of virtio-blk. */
export const BLK_FORMAT: RequestFormat = {
  ring: 0,
  rings: 1,
  headerBytes: 16,
  answerBytes: 1,
  dataLast: false,
  prepare: (view, header, write) => {
    view.setUint32(header, write ? 1 : 0, true);
  },
  submit: (view, header, answer, sector) => {
    view.setUint32(header + 8, sector, true);
    view.setUint32(header + 12, sector / TWO_32, true);
    view.setUint8(answer, 0xff);
  },
  status: (view, answer) => view.getUint8(answer),
};

/** Bytes of a SCSI request before its CDB, and of that; of a response. */
const CDB_AT = 19, CDB_SIZE = 32, RESPONSE = 108;
const READ_10 = 0x28, WRITE_10 = 0x2a;
const SECTOR = 512;
/** STATUS and RESPONSE of a response: two bytes. */
const ENDING = 10;

/** READ (10) and WRITE (10) of target 0, LUN 0, with blocks of 512 bytes. */
export const SCSI_FORMAT: RequestFormat = {
  ring: 2,
  rings: 3,
  headerBytes: CDB_AT + CDB_SIZE,
  answerBytes: RESPONSE,
  dataLast: true,
  prepare: (view, header, write, bytes) => {
    view.setUint8(header, 1);
    view.setUint32(header + 8, header, true);
    view.setUint8(header + CDB_AT, write ? WRITE_10 : READ_10);
    view.setUint16(header + CDB_AT + 7, bytes / SECTOR);
  },
  submit: (view, header, answer, sector) => {
    view.setUint32(header + CDB_AT + 2, sector);
    view.setUint16(answer + ENDING, 0xffff);
  },
  status: (view, answer) => view.getUint16(answer + ENDING),
};
