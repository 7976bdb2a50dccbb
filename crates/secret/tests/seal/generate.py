#!/usr/bin/env python3
"""Writes the known answers of this folder with Microsoft SEAL.

    python3 -m venv CACHE && CACHE/bin/pip install tenseal==0.3.18 zstandard==0.25.0 blake3==1.0.11
    CACHE/bin/python generate.py

SEAL 4.3 is the one inside TenSEAL (`tenseal.sealapi`). Keys and encryptions are fresh in every run, so the files
change; what they pin does not. Objects are saved by SEAL and read back here from its serialisation (native/src/seal:
serialization.h, ciphertext.cpp, plaintext.cpp, kswitchkeys.cpp), because no binding hands out a key's numbers at once.

Each file is one JSON object. Residues are those of SEAL, in its order: the evaluation domain, component by component,
limb by limb, a string of decimal integers for each row of N.

  degree, moduli, special   the ring; SEAL's last prime is the special one
  security                  "none" or "tc128", what SEAL was asked to check
  scale_bits                log2 of the scale of x and y
  secret                    [limb]
  relinearisation           [digit][component][limb]
  galois                    element -> [digit][component][limb]
  rotations                 steps -> element; "conjugation" is one of them
  x, y                      slots, complex: lists of [re, im]
  plain_x                   [limb], encoded by SEAL
  cipher_x, cipher_y        [component][limb]; x with the public key, y with the secret key
  results                   name -> ciphertext with "scale", "components" or "digest" (BLAKE3 of the residues as
                            little-endian 64-bit words), and "decoded", what SEAL's decryptor and decoder make of it

  sum = x + y               product = x y, three components      relinearised = relinearise(product)
  rescaled = rescale(relinearised)                               rotated by each of the rotations, from relinearised
"""

import json
import pathlib
import struct
import tempfile

import blake3
import numpy as np
import tenseal.sealapi as seal
import zstandard

HERE = pathlib.Path(__file__).resolve().parent


class Stream:
    """What SEAL saved, decompressed level by level."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        value = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value[0]

    def skip(self, count):
        self.at += count

    def enter(self):
        """Reads a header: magic, its own size, version, compression, reserved, size with the header."""
        start = self.at
        assert self.take("H") == 0xA15E and self.take("B") == 16, "no SEAL header"
        assert (self.take("B"), self.take("B")) == (4, 3), "another version of SEAL"
        compression, _, size = self.take("B"), self.skip(2), self.take("Q")
        body = self.data[self.at : start + size]
        self.at = start + size
        assert compression in (0, 2), "neither raw nor Zstandard"
        return Stream(zstandard.ZstdDecompressor().decompressobj().decompress(body) if compression else body)

    def words(self):
        inner = self.enter()
        count = inner.take("Q")
        words = np.frombuffer(inner.data, dtype="<u8", offset=inner.at)
        assert len(words) == count, "an expansion that was left out"
        return words

    def ciphertext(self):
        inner = self.enter()
        inner.skip(32)  # parms_id
        assert inner.take("B") == 1, "not in the evaluation domain"
        size, degree, limbs = (inner.take("Q") for _ in range(3))
        scale, correction = inner.take("d"), inner.take("Q")
        assert correction == 1
        return scale, inner.words().reshape(size, limbs, degree)

    def plaintext(self, degree):
        inner = self.enter()
        inner.skip(32)
        count, scale = inner.take("Q"), inner.take("d")
        words = inner.words()
        assert len(words) == count
        return scale, words.reshape(-1, degree)

    def switching_keys(self):
        """By index: the digits, or nothing."""
        inner = self.enter()
        inner.skip(32)
        indices = inner.take("Q")
        digits = lambda: [inner.ciphertext()[1] for _ in range(inner.take("Q"))]
        return [digits() for _ in range(indices)]


def saved(thing):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "saved")
        thing.save(str(path))
        return Stream(path.read_bytes())


def rows(array):
    if array.ndim == 1:
        return " ".join(map(str, array))
    return [rows(part) for part in array]


def pairs(values):
    return [[z.real, z.imag] for z in values]


class Case:
    def __init__(self, degree, bits, level, scale_bits, rotations, digests, seed):
        parms = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        parms.set_poly_modulus_degree(degree)
        parms.set_coeff_modulus(seal.CoeffModulus.Create(degree, bits))
        levels = {"none": seal.SEC_LEVEL_TYPE.NONE, "tc128": seal.SEC_LEVEL_TYPE.TC128}
        self.context = seal.SEALContext(parms, True, levels[level])
        assert self.context.parameters_set(), self.context.parameters_error_message()
        primes = [q.value() for q in self.context.key_context_data().parms().coeff_modulus()]
        self.degree, self.scale, self.digests = degree, 2.0**scale_bits, digests
        self.rotations, self.rng = rotations, np.random.default_rng(seed)
        self.out = {"degree": degree, "moduli": rows(np.array(primes[:-1])), "special": str(primes[-1])}
        self.out |= {"security": level, "scale_bits": scale_bits}
        self.keys()

    def keys(self):
        generator = seal.KeyGenerator(self.context)
        self.secret, self.public = generator.secret_key(), seal.PublicKey()
        self.relin, self.galois = seal.RelinKeys(), seal.GaloisKeys()
        generator.create_public_key(self.public)
        generator.create_relin_keys(self.relin)
        elements = {str(r): pow(3, r, 2 * self.degree) for r in self.rotations}
        if not self.digests:
            elements["conjugation"] = 2 * self.degree - 1
        generator.create_galois_keys(list(elements.values()), self.galois)
        galois = saved(self.galois).switching_keys()
        self.out["secret"] = rows(saved(self.secret).plaintext(self.degree)[1])
        self.out["relinearisation"] = rows(np.array(saved(self.relin).switching_keys()[0]))
        # SEAL keeps the key of element g at (g - 1) / 2.
        self.out["galois"] = {str(g): rows(np.array(galois[(g - 1) // 2])) for g in elements.values()}
        self.out["rotations"] = elements

    def result(self, name, ciphertext):
        scale, numbers = saved(ciphertext).ciphertext()
        plain = seal.Plaintext()
        seal.Decryptor(self.context, self.secret).decrypt(ciphertext, plain)
        result = {"scale": scale, "decoded": pairs(self.encoder.decode_complex(plain))}
        if self.digests:
            result["digest"] = blake3.blake3(numbers.tobytes()).hexdigest()
            result["decoded"] = result["decoded"][:32]
        else:
            result["components"] = rows(numbers)
        self.out["results"][name] = result

    def encrypted(self, name, encrypt):
        values = self.rng.uniform(-0.5, 0.5, (2, self.degree // 2))
        values = [complex(*z) for z in np.round(values.T, 3)]
        plain, cipher = seal.Plaintext(), seal.Ciphertext()
        self.encoder.encode(values, self.scale, plain)
        encrypt(plain, cipher)
        self.out[name] = pairs(values)
        return plain, cipher

    def run(self):
        self.encoder, evaluator = seal.CKKSEncoder(self.context), seal.Evaluator(self.context)
        encryptor = seal.Encryptor(self.context, self.public, self.secret)
        plain_x, x = self.encrypted("x", encryptor.encrypt if not self.digests else encryptor.encrypt_symmetric)
        _, y = self.encrypted("y", encryptor.encrypt_symmetric)
        if not self.digests:
            self.out["plain_x"] = rows(saved(plain_x).plaintext(self.degree)[1])
        self.out |= {"cipher_x": rows(saved(x).ciphertext()[1]), "cipher_y": rows(saved(y).ciphertext()[1])}
        self.out["results"] = {}
        made = {name: seal.Ciphertext() for name in ["sum", "product", "relinearised", "rescaled"]}
        evaluator.add(x, y, made["sum"])
        evaluator.multiply(x, y, made["product"])
        evaluator.relinearize(made["product"], self.relin, made["relinearised"])
        if self.digests:
            del made["rescaled"]
        else:
            evaluator.rescale_to_next(made["relinearised"], made["rescaled"])
        for name in self.out["rotations"]:
            made[f"rotated {name}"] = seal.Ciphertext()
            operation = evaluator.complex_conjugate if name == "conjugation" else evaluator.rotate_vector
            steps = [] if name == "conjugation" else [int(name)]
            operation(made["relinearised"], *steps, self.galois, made[f"rotated {name}"])
        for name, ciphertext in made.items():
            self.result(name, ciphertext)
        return self.out


def write(name, case):
    text = json.dumps(case.run(), indent=0)
    (HERE / name).write_text(text + "\n")


# Several digits, primes of the sizes of TenSEAL's tutorials, a ring too small for secrets.
write("n64.json", Case(64, [60, 40, 40, 60], "none", 40, [1, 29], False, 1))
# The smallest ring that SEAL takes as secure and that leaves it a special prime: the 2018 table, 54 bits.
write("n2048.json", Case(2048, [27, 27], "tc128", 12, [5], True, 2))
