// Checks the tokens of users: the same ones that the sync API accepts.

import { createHmac, createPublicKey, timingSafeEqual, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';

const CLOCK_DIFFERENCE_SECONDS = 60;

// How each algorithm of a JSON Web Signature is verified.
const ALGORITHMS = {
  RS256: { hash: 'sha256' },
  RS384: { hash: 'sha384' },
  RS512: { hash: 'sha512' },
  ES256: { hash: 'sha256', dsaEncoding: 'ieee-p1363' },
  ES384: { hash: 'sha384', dsaEncoding: 'ieee-p1363' },
  ES512: { hash: 'sha512', dsaEncoding: 'ieee-p1363' },
  EdDSA: { hash: null },
  HS256: { hmac: 'sha256' },
  HS384: { hmac: 'sha384' },
  HS512: { hmac: 'sha512' },
};

// Returns a function from the header `Authorization` to the `sub` of a valid token, or null.
export function readKeys(file, audience) {
  const { keys } = JSON.parse(readFileSync(file, 'utf8'));
  for (const key of keys) {
    if (!ALGORITHMS[key.alg]) throw new Error(`${file}: a key needs an \`alg\` that this program supports`);
  }

  return (authorization) => {
    const token = /^Bearer (\S+)$/.exec(authorization ?? '')?.[1];
    const [header, payload, signature, ...rest] = (token ?? '').split('.');
    if (!signature || rest.length > 0) return null;
    const kid = decoded(header)?.kid;

    // If the set has the key that the token names, only that one counts.
    const isNamed = keys.some((key) => kid !== undefined && key.kid === kid);
    const wanted = keys.filter((key) => key.kid === (isNamed ? kid : undefined));
    const signed = Buffer.from(`${header}.${payload}`);
    const bytes = Buffer.from(signature, 'base64url');
    if (!wanted.some((key) => isSigned(key, signed, bytes))) return null;
    return subject(decoded(payload), audience);
  };
}

// The key decides the algorithm, never the token: a token could choose a weaker one.
function isSigned(key, signed, signature) {
  const { hash, hmac, dsaEncoding } = ALGORITHMS[key.alg];
  try {
    if (hmac) {
      const expected = createHmac(hmac, Buffer.from(key.k, 'base64url')).update(signed).digest();
      return expected.length === signature.length && timingSafeEqual(expected, signature);
    }
    const publicKey = createPublicKey({ key, format: 'jwk' });
    return verify(hash, signed, { key: publicKey, dsaEncoding }, signature);
  } catch {
    return false;
  }
}

function decoded(part) {
  try {
    return JSON.parse(Buffer.from(part, 'base64url').toString('utf8'));
  } catch {
    return null;
  }
}

function subject(claims, audience) {
  if (!claims || typeof claims.sub !== 'string' || typeof claims.exp !== 'number') return null;
  const now = Date.now() / 1000;
  if (claims.exp + CLOCK_DIFFERENCE_SECONDS < now) return null;
  if (claims.nbf !== undefined && claims.nbf - CLOCK_DIFFERENCE_SECONDS > now) return null;
  return [claims.aud].flat().includes(audience) ? claims.sub : null;
}
