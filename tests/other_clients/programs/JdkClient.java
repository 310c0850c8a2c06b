import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/**
 * The JDK's client as it is by default: on a connection that it opens it offers HTTP/2 (Upgrade: h2c),
 * beside a request that may have a body. Generates a picture, checks it, decodes and prints the verdict.
 */
class JdkClient {
    public static void main(String[] arguments) throws Exception {
        URI service = URI.create(arguments[0]);
        byte[] png = body(HttpRequest.newBuilder(service.resolve("/generate?label=7&seed=42")));
        HttpRequest.BodyPublisher latents =
            HttpRequest.BodyPublishers.ofString("{\"z\": [[" + "0, ".repeat(63) + "0]]}");
        byte[] decoded = body(HttpRequest.newBuilder(service.resolve("/decode"))
            .header("Content-Type", "application/json").POST(latents));
        if (decoded[1] != 'P') {
            throw new IllegalStateException("no PNG: " + new String(decoded));
        }
        byte[] verdict = body(HttpRequest.newBuilder(service.resolve("/verify"))
            .header("Content-Type", "image/png")
            .POST(HttpRequest.BodyPublishers.ofByteArray(png)));
        System.out.println(new String(verdict));
    }

    /** Of the response, on a connection that is opened for it. */
    static byte[] body(HttpRequest.Builder request) throws Exception {
        HttpResponse<byte[]> response =
            HttpClient.newHttpClient().send(request.build(), HttpResponse.BodyHandlers.ofByteArray());
        if (response.statusCode() != 200 || response.version() != HttpClient.Version.HTTP_1_1) {
            throw new IllegalStateException(response + " " + new String(response.body()));
        }
        return response.body();
    }
}
