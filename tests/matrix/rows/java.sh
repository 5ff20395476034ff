# shellcheck shell=bash
# title: java -version, javac and a program of 16 threads
set -e -o pipefail
java -version
cat > Threads.java <<'J'
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.stream.*;

public class Threads {
  static final AtomicLong counter = new AtomicLong();

  static long work(int id) {
    Map<Integer, String> map = new TreeMap<>();
    for (int i = 0; i < 20000; ++i) map.put((int) ((long) i * (id * 2 + 7919) % 100003), "v" + i + "/" + id);
    long sum = 0;
    for (Map.Entry<Integer, String> e : map.entrySet()) sum = sum * 31 + e.getKey() + e.getValue().hashCode();
    List<byte[]> blocks = new ArrayList<>();
    for (int i = 0; i < 200; ++i) { byte[] b = new byte[50000]; Arrays.fill(b, (byte) (i + id)); blocks.add(b); counter.addAndGet(b[i * 100]); }
    for (byte[] b : blocks) sum += b[b.length - 1];
    return sum;
  }

  public static void main(String[] args) throws Exception {
    ExecutorService pool = Executors.newFixedThreadPool(16);
    List<Future<Long>> results = new ArrayList<>();
    for (int id = 0; id < 64; ++id) { final int n = id; results.add(pool.submit(() -> work(n))); }
    for (int id = 0; id < 64; ++id) System.out.println("task " + id + ": " + results.get(id).get());
    pool.shutdown();
    System.out.println(pool.awaitTermination(10, TimeUnit.SECONDS) + " " + counter.get());
    System.out.println(IntStream.range(0, 3_000_000).parallel().mapToLong(i -> (long) i * i % 1009).sum());
    int depth = 0;
    try { deep(0); } catch (StackOverflowError e) { System.out.println("stack overflow caught"); }
    try { String s = null; System.out.println(s.length()); } catch (NullPointerException e) { System.out.println("null caught"); }
    System.gc();
    long kept = 0;
    for (int round = 0; round < 40; ++round) { int[][] a = new int[100][]; for (int i = 0; i < 100; ++i) { a[i] = new int[10000]; a[i][round] = i; } kept += a[99][round]; }
    System.out.println("kept " + kept);
  }
  static int deep(int n) { return deep(n + 1) + 1; }
}
J
javac -J-Xmx256m Threads.java
java -Xmx256m -cp . Threads
