// What tollgate's [[jwt]] does, for NGINX: the consumer of a valid HS256 token that has not expired, else "".
//
// js_set must answer at once, so crypto.createHmac rather than the asynchronous crypto.subtle. NGINX keeps the
// variable for the rest of the request; nothing is kept between requests.

import crypto from 'crypto';

const SECRET = '@SECRET@';

function consumer(r) {
    const field = r.headersIn.Authorization;
    if (!field || !field.startsWith('Bearer ')) {
        return '';
    }
    const parts = field.slice(7).split('.');
    if (parts.length !== 3) {
        return '';
    }
    try {
        const header = JSON.parse(Buffer.from(parts[0], 'base64url'));
        if (header.alg !== 'HS256') {
            return '';
        }
        const signed = parts[0] + '.' + parts[1];
        if (crypto.createHmac('sha256', SECRET).update(signed).digest('base64url') !== parts[2]) {
            return '';
        }
        const claims = JSON.parse(Buffer.from(parts[1], 'base64url'));
        if (typeof claims.exp !== 'number' || claims.exp * 1000 <= Date.now()) {
            return '';
        }
        return typeof claims.sub === 'string' ? claims.sub : '';
    } catch (e) {
        return '';
    }
}

export default { consumer };
