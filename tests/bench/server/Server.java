import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.catalina.Context;
import org.apache.catalina.LifecycleException;
import org.apache.catalina.startup.Tomcat;

/** Tomcat as a program of its own: java Server PORT DIRECTORY. A request costs what a small page of a real application does. */
public final class Server {
    private static final Pattern WORD = Pattern.compile("(\\w+)-(\\d+)");

    static final class Page extends HttpServlet {
        private static final long serialVersionUID = 1;

        @Override
        protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
            String user = request.getParameter("user") == null ? "nobody" : request.getParameter("user");
            Map<String, Integer> counts = new HashMap<>();
            List<String> rows = new ArrayList<>();
            for (int i = 0; i < 100; i++) {
                String row = user + "-" + i * 7919 % 1009;
                if (WORD.matcher(row).matches()) {
                    counts.merge(row.substring(0, Math.min(row.length(), 6)), 1, Integer::sum);
                    rows.add(row);
                }
            }
            String body = rows.stream().sorted().map(row -> "<li>" + row + "</li>").collect(Collectors.joining("\n"));
            response.setContentType("text/html");
            response.setHeader("X-Digest", digest(body));
            response.getWriter().println("<ul>" + body + "</ul>" + counts.size());
        }

        private static String digest(String text) {
            try {
                byte[] bytes = MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
                return String.format("%02x%02x%02x%02x", bytes[0], bytes[1], bytes[2], bytes[3]);
            } catch (NoSuchAlgorithmException error) {
                throw new IllegalStateException(error);
            }
        }
    }

    private Server() {
    }

    public static void main(String[] arguments) throws LifecycleException {
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(arguments[1]);
        tomcat.setHostname("127.0.0.1");
        tomcat.setPort(Integer.parseInt(arguments[0]));
        tomcat.getConnector().setProperty("address", "127.0.0.1");
        tomcat.getConnector().setProperty("maxThreads", "20");
        Context context = tomcat.addContext("", new File(arguments[1]).getAbsolutePath());
        Tomcat.addServlet(context, "page", new Page()).addMapping("/page");
        tomcat.start();
        tomcat.getServer().await();
    }
}
