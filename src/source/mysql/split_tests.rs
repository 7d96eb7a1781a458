//! Tests of the splitter.

use proptest::prelude::*;

use super::*;

/// The content of a dump of MariaDB, shortened, with everything that could be mistaken for something else.
const DUMP: &str = r"/*M!999999\- enable the sandbox mode */ 
-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)
--
-- Host: localhost    Database: agama
-- ------------------------------------------------------

/*!40101 SET NAMES utf8mb4 */;
/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;

--
-- Current Database: `agama`
--

CREATE DATABASE /*!32312 IF NOT EXISTS*/ `agama` /*!40100 DEFAULT CHARACTER SET utf8mb4 */;

USE `agama`;

--
-- Table structure for table `od``d/.`
--

DROP TABLE IF EXISTS `od``d/.`;
CREATE TABLE `od``d/.` (
  `(` int(11) COMMENT ');
--
-- Table structure for table `forged`
--
'
);

--
-- Dumping data for table `od``d/.`
--
-- ORDER BY:  `(`

LOCK TABLES `od``d/.` WRITE;
INSERT INTO `od``d/.` (`(`, b) VALUES
(1,'it\'s ),( a
-- Dump completed
'),
(2,'\\'),(3,_binary 'x');
INSERT INTO `od``d/.` VALUES (4,(5),'VALUES (');
UNLOCK TABLES;
/*!50003 SET @saved_cs_client      = @@character_set_client */ ;
DELIMITER ;;
/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ /*!50003 TRIGGER t BEFORE INSERT ON `od``d/.` FOR EACH ROW BEGIN
INSERT INTO x VALUES (1),(2);
--
-- Table structure for table `forged`
--
END */;;
DELIMITER ;

--
-- Temporary table structure for view `v`
--

/*!50001 CREATE VIEW `v` AS SELECT
 NULL AS `id` */;

--
-- Dumping routines for database 'agama'
--
/*!50003 SET sql_mode              = 'NO_BACKSLASH_ESCAPES' */ ;
DELIMITER ;;
CREATE PROCEDURE `p`() BEGIN SELECT '\'; # '
  SELECT 1;
-- Dump completed
END ;;
DELIMITER ;
/*!50003 SET sql_mode              = @saved_sql_mode */ ;

--
-- Current Database: `agama`
--

USE `agama`;

--
-- Final view structure for view `v`
--

/*!50001 VIEW `v` AS select 1 */;

--
-- Current Database: `agama`
--

USE `agama`;
/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;

/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;

-- Dump completed
";

type Split = (Vec<(String, Vec<u8>)>, Counted, bool);

/// The streams of `dump`, which comes in pieces of `piece` bytes and is read into a buffer of `buffer` bytes.
fn split(dump: &[u8], piece: usize, buffer: usize) -> Split {
    let mut rest = dump;
    let input = |out: &mut [u8]| {
        let length = rest.len().min(out.len()).min(piece);
        out[..length].copy_from_slice(&rest[..length]);
        rest = &rest[length..];
        Ok(length)
    };
    let mut splitter = Splitter::new(input, "shop");
    let mut streams: Vec<(String, Vec<u8>)> = Vec::new();
    let mut bytes = vec![0; buffer];
    while let Some(name) = splitter.next_stream().unwrap() {
        let mut content = Vec::new();
        loop {
            match splitter.read(&mut bytes).unwrap() {
                0 => break,
                length => content.extend_from_slice(&bytes[..length]),
            }
        }
        streams.push((name, content));
    }
    let (counted, whole) = splitter.finish_counts();
    (streams, counted, whole)
}

fn joined(streams: &[(String, Vec<u8>)]) -> Vec<u8> {
    streams.iter().flat_map(|(_, content)| content.clone()).collect()
}

#[test]
fn each_part_is_a_stream_and_together_they_are_the_dump() {
    let (streams, counted, whole) = split(DUMP.as_bytes(), usize::MAX, 1 << 20);
    let names: Vec<&str> = streams.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "@preamble.sql",
            "agama/@database.sql",
            "agama/od`d%2F%2E.sql",
            "agama/od`d%2F%2E.triggers.sql",
            "agama/v.stub.sql",
            "agama/@routines.sql",
            "agama/@use.sql",
            "agama/v.view.sql",
            "agama/@use@2.sql",
            "@postamble.sql",
        ]
    );
    assert!(joined(&streams) == DUMP.as_bytes());
    assert!(whole);
    assert_eq!(counted.rows, [("agama/od`d%2F%2E.sql".to_owned(), 4)].into());
    let text = |number: usize| std::str::from_utf8(&streams[number].1).unwrap();
    assert!(text(2).trim_start().starts_with("--\n-- Table structure") && text(2).ends_with("UNLOCK TABLES;\n"));
    assert!(text(3).contains("forged") && text(9).ends_with("\n-- Dump completed\n"));
}

#[test]
fn a_dump_without_a_word_about_its_database_names_it_in_its_head() {
    let of = |database: &str| {
        let own = "--\n-- Current Database: `agama`\n--\n\n";
        let dump = DUMP.replace(own, "").replace("USE `agama`;\n", "").replace("Database: agama", database);
        let (streams, ..) = split(dump.as_bytes(), 7, 1 << 20);
        streams.into_iter().map(|(name, _)| name).find(|name| name.contains("v.view")).unwrap()
    };
    assert_eq!(of("Database: crm"), "crm/v.view.sql");
    assert_eq!(of("Database: "), "shop/v.view.sql");
}

#[test]
fn the_pieces_that_a_dump_comes_in_change_nothing() {
    let whole = split(DUMP.as_bytes(), usize::MAX, 1 << 20);
    for piece in [1, 2, 3, 7, 100, 511, 1000] {
        assert_eq!(split(DUMP.as_bytes(), piece, 13), whole, "{piece}");
    }
}

#[test]
fn the_completion_line_counts_only_as_the_last_line() {
    for cut in 1..=DUMP.len() {
        assert!(!split(&DUMP.as_bytes()[..DUMP.len() - cut], usize::MAX, 4096).2, "{cut}");
    }
    assert!(!split(format!("{DUMP}SELECT 1;\n").as_bytes(), usize::MAX, 4096).2);
    assert!(split(DUMP.replace("completed\n\"", "").as_bytes(), usize::MAX, 4096).2);
    let dated =
        DUMP.strip_suffix("-- Dump completed\n").unwrap().to_owned() + "-- Dump completed on 2026-11-21 14:00:00\n";
    assert!(split(dated.as_bytes(), usize::MAX, 4096).2);
}

#[test]
fn a_line_of_any_length_needs_little_memory() {
    let mut rows = 0u32;
    let mut rest: Vec<u8> = DUMP.split("INSERT").next().unwrap().as_bytes().to_vec();
    rest.extend_from_slice(b"INSERT INTO t VALUES ");
    let input = |out: &mut [u8]| {
        while rest.len() < out.len() && rows < 2_000_000 {
            rows += 1;
            rest.extend_from_slice(b"(1,'it\\'s'),");
        }
        let length = rest.len().min(out.len());
        out[..length].copy_from_slice(&rest[..length]);
        rest.drain(..length);
        Ok(length)
    };
    let mut splitter = Splitter::new(input, "shop");
    let mut most = 0;
    let mut buffer = vec![0; 1 << 20];
    while splitter.next_stream().unwrap().is_some() {
        while splitter.read(&mut buffer).unwrap() > 0 {
            most = most.max(splitter.window.capacity());
        }
    }
    let (counted, whole) = splitter.finish_counts();
    assert!(most <= 8 * READ, "{most}");
    assert_eq!((counted.rows["agama/od`d%2F%2E.sql"], whole), (2_000_000, false));
}

/// Pieces that dumps are made of, and some that they aren't.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "\n--\n-- Table structure for table `t`\n--\n\n",
        "--\n-- Current Database: `d`\n--\n",
        "INSERT INTO `t` VALUES (1,'a\\'b'),(2,\"",
        "INSERT INTO `t` VALUES\n(1),(2);\n",
        "DELIMITER ;;\n",
        "DELIMITER ;\n",
        "'",
        "\\",
        "`",
        "/*",
        "*/",
        "/*!50003 SET @saved_cs_client = 1 */ ;\n",
        "/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;\n",
        "SET sql_mode = 'NO_BACKSLASH_ESCAPES';\n",
        "-- Dump completed\n",
        "-- Final view structure for view `v`\n",
        ";",
        ";;\n",
        "#",
        "\n",
        "-",
    ]);
    let piece = prop_oneof![
        6 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (1usize..3000).prop_map(|length| vec![b'x'; length]),
        1 => (1usize..80_000).prop_map(|length| b"-- \n".repeat(length / 4)),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("VARU_TEST_LONG").is_some() { 5000 } else { 300 }))]

    #[test]
    fn any_bytes_come_back_whole_and_split_the_same_however_they_come(dump in pieces(), piece in 1usize..2000, buffer in 1usize..5000) {
        let (streams, counted, whole) = split(&dump, usize::MAX, 1 << 16);
        prop_assert!(joined(&streams) == dump);
        let names: std::collections::BTreeSet<_> = streams.iter().map(|(name, _)| name).collect();
        prop_assert_eq!(names.len(), streams.len());
        for name in names {
            prop_assert!(crate::entry::StreamName::new(name.as_bytes()).is_ok());
        }
        prop_assert!(split(&dump, piece, buffer) == (streams, counted, whole));
    }
}
