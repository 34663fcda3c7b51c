/** Error that every failed assertion throws. Its `name` is `AssertionError`. */
export class AssertionError extends Error {
  /**
   * @param message What was expected and what was found.
   * @param options The standard error options, for `cause`.
   */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "AssertionError";
  }
}
