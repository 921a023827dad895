// The health check: initiates the set once, and is content only with a primary that takes writes.
let hello = db.hello();
if (!hello.setName) {
  try {
    rs.initiate({ _id: "rs0", members: [{ _id: 0, host: "mongo:27017", priority: 2 }] });
  } catch (error) {
    // Another check was quicker.
    if (error.codeName !== "AlreadyInitialized") throw error;
  }
  hello = db.hello();
}
quit(hello.isWritablePrimary || (hello.setName && hello.primary) ? 0 : 1);
