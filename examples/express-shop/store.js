// Where a service keeps what it is given. Its replicas share it, so that each of them answers the same.
//
// Without MONGODB_URL: one file a record. A record is made by giving its finished file a name that must be new, which
// the system does in one step: two replicas cannot take the same id, none reads half of a record, and there is no lock
// that a killed one could leave behind. With MONGODB_URL: a collection there, see mongodb.yaml.

const crypto = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");

class Files {
  constructor(name) {
    this.folder = path.join(process.env.SHOAL_DATA_DIR ?? "data", name);
    fs.mkdirSync(this.folder, { recursive: true });
  }

  /** Gives the record with its id, the next number; under a `key`, null when there is one already. */
  async insert(record, key) {
    for (let id = key ?? this.#last() + 1; ; id++) {
      const made = { id, ...record };
      if (this.#write(made, (written) => fs.linkSync(written, this.#path(id)))) return made;
      if (key !== undefined) return null;
    }
  }

  /** null: there is none. */
  async get(id) {
    try {
      return JSON.parse(fs.readFileSync(this.#path(id), "utf8"));
    } catch (error) {
      if (error.code === "ENOENT") return null;
      throw error;
    }
  }

  async list() {
    const found = await Promise.all(this.#numbers().sort((a, b) => a - b).map((id) => this.get(id)));
    return found.filter((record) => record !== null);
  }

  /** Leaves a null in its place, so that its number is not given again. */
  async remove(id) {
    if (fs.existsSync(this.#path(id))) this.#write(null, (written) => fs.renameSync(written, this.#path(id)));
  }

  #path(id) {
    const name = typeof id === "number" ? id : crypto.createHash("sha256").update(id).digest("hex");
    return path.join(this.folder, `${name}.json`);
  }

  #numbers() {
    return fs.readdirSync(this.folder).filter((name) => /^\d{1,15}\.json$/.test(name)).map((name) => parseInt(name));
  }

  #last() {
    return this.#numbers().reduce((most, id) => Math.max(most, id), 0);
  }

  #write(record, place) {
    const written = path.join(this.folder, `${crypto.randomUUID()}.new`);
    fs.writeFileSync(written, JSON.stringify(record));
    try {
      place(written);
      return true;
    } catch (error) {
      if (error.code === "EEXIST") return false;
      throw error;
    } finally {
      fs.rmSync(written, { force: true });
    }
  }
}

class Mongo {
  constructor(name, database) {
    this.name = name;
    this.records = database.collection(name);
    this.counters = database.collection("counters");
  }

  async insert(record, key) {
    const _id = key ?? (await this.#next());
    try {
      await this.records.insertOne({ _id, ...record });
    } catch (error) {
      if (error.code === 11000) return null; // there is one already
      throw error;
    }
    return { id: _id, ...record };
  }

  async get(id) {
    return Mongo.#plain(await this.records.findOne({ _id: id }));
  }

  async list() {
    return (await this.records.find().sort({ _id: 1 }).toArray()).map(Mongo.#plain);
  }

  async remove(id) {
    await this.records.deleteOne({ _id: id });
  }

  async #next() {
    const change = { $inc: { last: 1 } };
    const options = { upsert: true, returnDocument: "after", includeResultMetadata: false };
    return (await this.counters.findOneAndUpdate({ _id: this.name }, change, options)).last;
  }

  static #plain(found) {
    if (found === null) return null;
    const { _id, ...record } = found;
    return { id: _id, ...record };
  }
}

let database;

exports.open = function open(name) {
  if (!process.env.MONGODB_URL) return new Files(name);
  const { MongoClient } = require("mongodb");
  const named = new URL(process.env.MONGODB_URL).pathname.length > 1;
  database ??= new MongoClient(process.env.MONGODB_URL).db(named ? undefined : "shop"); // connects when first asked
  return new Mongo(name, database);
};
