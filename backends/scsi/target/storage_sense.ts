/**
 * What an error of the storage is in sense data.
 *
 * @module
 */

import { Errno } from "../../../sys/errno.ts";
import { Asc, SenseKey } from "./constants.ts";
import { LBA, type Task } from "./task.ts";

/**
 * Ends a command whose storage operation failed.
 *
 * @param writing whether it wrote
 * @param errno positive
 */
export function failStorage(task: Task, writing: boolean, errno: number): void {
  task.transferred = 0;
  switch (errno) {
    case Errno.ENOSPC:
    case Errno.EDQUOT:
      return task.fail({
        key: SenseKey.DATA_PROTECT,
        asc: Asc.SPACE_ALLOCATION_FAILED_WRITE_PROTECT,
      });
    case Errno.EBADF:
    case Errno.EPERM:
    case Errno.EROFS:
      if (writing) {
        return task.fail({
          key: SenseKey.DATA_PROTECT,
          asc: Asc.WRITE_PROTECTED,
        });
      }
      break;
    case Errno.EIO:
      return task.fail({
        key: SenseKey.MEDIUM_ERROR,
        asc: writing ? Asc.WRITE_ERROR : Asc.UNRECOVERED_READ_ERROR,
        information: task.range[LBA],
      });
  }
  task.fail({
    key: SenseKey.HARDWARE_ERROR,
    asc: Asc.INTERNAL_TARGET_FAILURE,
  });
}
